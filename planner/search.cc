#include "planner/search.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>

#include "planner/mesh_table.h"
#include "planner/other_schedules.h"
#include "planner/parallel_for.h"

namespace msmoe::planner {
namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kMostParetoPlans = 12;
// A step of the Pareto set that saves less memory than this is not worth a line.
constexpr double kParetoMemoryStep = 0.98;
constexpr std::size_t kNearMissesPerMesh = 1, kNearMisses = 4;
constexpr std::size_t kPlansUnderOtherSchedules = 24;
// Plans that need more than this many times the GPU's memory are not near.
constexpr double kNearMemory = 1.25;

struct Candidate {
  std::int64_t bound_ps = 0;
  double memory = 0;
  std::int32_t mesh = 0, pipeline = 0, variant = 0;
  std::int64_t step_ps = -1;  // not composed yet
};

bool before(const Candidate& a, const Candidate& b) {
  return std::tie(a.mesh, a.pipeline, a.variant) < std::tie(b.mesh, b.pipeline, b.variant);
}

struct Screened {
  std::vector<Candidate> fit, too_big;
  std::int64_t considered = 0, invalid = 0, over_memory = 0, over_by_states = 0;
  std::map<std::string, std::int64_t> rejections;
};

Screened screen(const Question& question, MeshTable& table, std::int32_t mesh_idx) {
  Screened result;
  const double usable = question.cluster.gpu.memory.count;
  MeshTable::Cursor cursor(table);
  std::vector<bool> valid(table.variants().size());
  for (std::size_t pipeline = 0; pipeline < table.pipelines().size(); ++pipeline) {
    // Validity first: a pipeline that no variant can use is not worth its synchronisation times.
    std::int64_t num_valid = 0;
    Plan plan = table.plan(static_cast<int>(pipeline), 0);
    for (std::size_t variant = 0; variant < table.variants().size(); ++variant) {
      apply(table.variants()[variant], plan);
      ++result.considered;
      const char* broken = broken_rule(question.model, question.cluster, plan);
      valid[variant] = broken == nullptr;
      num_valid += valid[variant];
      if (broken != nullptr) {
        ++result.invalid;
        ++result.rejections[broken];
      }
    }
    if (num_valid == 0) continue;
    cursor.move_to_pipeline(static_cast<int>(pipeline));
    const double states = cursor.states().count;
    if (states > usable) result.over_by_states += num_valid;
    if (states > kNearMemory * usable) {
      result.over_memory += num_valid;
      continue;
    }
    for (std::size_t variant = 0; variant < table.variants().size(); ++variant) {
      if (!valid[variant]) continue;
      cursor.move_to_variant(static_cast<int>(variant));
      Candidate candidate{.memory = cursor.memory().total().count,
                          .mesh = mesh_idx,
                          .pipeline = static_cast<std::int32_t>(pipeline),
                          .variant = static_cast<std::int32_t>(variant)};
      const bool fits = candidate.memory <= usable;
      result.over_memory += !fits;
      if (candidate.memory > kNearMemory * usable) continue;
      candidate.bound_ps = cursor.bound_ps();
      (fits ? result.fit : result.too_big).push_back(candidate);
    }
  }
  // Only the most promising of those too big are ever looked at again.
  auto& big = result.too_big;
  const std::size_t keep = std::min(big.size(), kNearMissesPerMesh);
  std::partial_sort(big.begin(), big.begin() + static_cast<std::ptrdiff_t>(keep), big.end(),
                    [](const Candidate& a, const Candidate& b) {
                      return std::tie(a.bound_ps, a.mesh, a.pipeline, a.variant) <
                             std::tie(b.bound_ps, b.mesh, b.pipeline, b.variant);
                    });
  big.resize(keep);
  return result;
}

// Fields whose other values are reported beside the winner's, and the part of a plan that decides each.
enum class PlanPart { kMesh, kPipeline, kVariant };
struct Field {
  const char* name;
  PlanPart part;
};
constexpr Field kAlternativeFields[] = {
    {"attention", PlanPart::kMesh},  {"attention_degree", PlanPart::kMesh}, {"ffn", PlanPart::kMesh},
    {"ep", PlanPart::kMesh},         {"dispatch", PlanPart::kVariant},      {"pp", PlanPart::kPipeline},
    {"vpp", PlanPart::kPipeline},    {"micro_batch", PlanPart::kVariant},   {"recompute", PlanPart::kVariant},
    {"overlap", PlanPart::kVariant}, {"zero", PlanPart::kPipeline}};

// The values that a field takes over the space, numbered: read once for each mesh, pipeline or variant.
struct FieldValues {
  PlanPart part;
  std::map<std::string, int> ids;
  std::vector<std::vector<int>> id_by_index;  // [mesh][index of the part in the mesh's table]

  int id_of(const Candidate& candidate) const {
    const std::int32_t index = part == PlanPart::kMesh       ? 0
                               : part == PlanPart::kPipeline ? candidate.pipeline
                                                             : candidate.variant;
    return id_by_index[static_cast<std::size_t>(candidate.mesh)][static_cast<std::size_t>(index)];
  }
};

class Search {
 public:
  Search(const Question& question, bool exhaustive) : question_(question), exhaustive_(exhaustive) {}

  SearchResult screen_only() {
    screen_all({});
    return std::move(result_);
  }

  std::optional<Scored> run_fastest() {
    screen_all({});
    const std::vector<std::size_t> winner = best_where([](const Candidate&) { return true; }, 1);
    return winner.empty() ? std::nullopt : std::optional(scored(fit_[winner.front()]));
  }

  SearchResult run(const SearchHooks& hooks) {
    const auto start = std::chrono::steady_clock::now();
    screen_all(hooks);
    const bool by_memory = question_.objective == Objective::kMemory;
    const std::vector<std::size_t> winners =
        by_memory ? least_memory(static_cast<std::size_t>(question_.top))
                  : best_where([](const Candidate&) { return true; }, static_cast<std::size_t>(question_.top));
    for (const std::size_t index : winners) result_.best.push_back(scored(fit_[index]));
    if (!winners.empty()) {
      find_pareto();
      find_alternatives(result_.best.front().plan);
      find_other_schedules();
    }
    find_near_misses();
    for (const Candidate& candidate : fit_) result_.simulated += candidate.step_ps >= 0;
    result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(result_);
  }

 private:
  void screen_all(const SearchHooks& hooks) {
    for (const Mesh& mesh : meshes(question_)) tables_.push_back(std::make_unique<MeshTable>(question_, mesh));
    if (hooks.start) hooks.start(static_cast<std::int64_t>(tables_.size()));
    std::vector<Screened> screened(tables_.size());
    parallel_for(question_.jobs, tables_.size(), [&](std::size_t mesh) {
      screened[mesh] = screen(question_, *tables_[mesh], static_cast<std::int32_t>(mesh));
      if (hooks.advance) hooks.advance(1);
    });
    for (const Screened& part : screened) {
      fit_.insert(fit_.end(), part.fit.begin(), part.fit.end());
      too_big_.insert(too_big_.end(), part.too_big.begin(), part.too_big.end());
      result_.considered += part.considered;
      result_.invalid += part.invalid;
      result_.over_memory += part.over_memory;
      result_.over_by_states += part.over_by_states;
      for (const auto& [rule, count] : part.rejections) result_.rejections[rule] += count;
    }
    std::sort(fit_.begin(), fit_.end(), [](const Candidate& a, const Candidate& b) {
      return std::tie(a.bound_ps, a.mesh, a.pipeline, a.variant) < std::tie(b.bound_ps, b.mesh, b.pipeline, b.variant);
    });
  }

  // The `count` plans of the least step among those admitted, by step and then by place in the space.
  std::vector<std::size_t> best_where(const std::function<bool(const Candidate&)>& admitted, std::size_t count) {
    std::vector<std::size_t> best, batch;
    std::int64_t worst_of_best = std::numeric_limits<std::int64_t>::max();
    auto take_batch = [&] {
      compose(batch);
      best.insert(best.end(), batch.begin(), batch.end());
      batch.clear();
      std::sort(best.begin(), best.end(), [&](std::size_t a, std::size_t b) {
        if (fit_[a].step_ps != fit_[b].step_ps) return fit_[a].step_ps < fit_[b].step_ps;
        return before(fit_[a], fit_[b]);
      });
      if (best.size() > count) best.resize(count);
      if (best.size() == count && count > 0) worst_of_best = fit_[best.back()].step_ps;
    };
    for (std::size_t index = 0; index < fit_.size(); ++index) {
      if (!exhaustive_ && fit_[index].bound_ps > worst_of_best) break;
      if (!admitted(fit_[index])) continue;
      batch.push_back(index);
      if (batch.size() == kBatch) take_batch();
    }
    take_batch();
    return best;
  }

  std::vector<std::size_t> least_memory(std::size_t count) {
    std::vector<std::size_t> order(fit_.size());
    for (std::size_t index = 0; index < order.size(); ++index) order[index] = index;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      if (fit_[a].memory != fit_[b].memory) return fit_[a].memory < fit_[b].memory;
      return a < b;
    });
    order.resize(std::min(order.size(), count));
    compose(order);
    return order;
  }

  // Fills step_ps. A mesh's table is used by one thread at a time.
  void compose(const std::vector<std::size_t>& indices) {
    std::map<std::int32_t, std::vector<std::size_t>> by_mesh;
    for (const std::size_t index : indices)
      if (fit_[index].step_ps < 0) by_mesh[fit_[index].mesh].push_back(index);
    std::vector<std::vector<std::size_t>> groups;
    for (auto& [mesh, group] : by_mesh) {
      std::sort(group.begin(), group.end(), [&](std::size_t a, std::size_t b) { return before(fit_[a], fit_[b]); });
      groups.push_back(std::move(group));
    }
    parallel_for(question_.jobs, groups.size(), [&](std::size_t group_idx) {
      const auto& group = groups[group_idx];
      MeshTable::Cursor cursor(*tables_[static_cast<std::size_t>(fit_[group.front()].mesh)]);
      std::int32_t pipeline = -1;
      for (const std::size_t index : group) {
        if (fit_[index].pipeline != pipeline) cursor.move_to_pipeline(pipeline = fit_[index].pipeline);
        cursor.move_to_variant(fit_[index].variant);
        fit_[index].step_ps = cursor.step_ps();
      }
    });
  }

  Plan plan_of(const Candidate& candidate) const {
    return tables_[static_cast<std::size_t>(candidate.mesh)]->plan(candidate.pipeline, candidate.variant);
  }
  Scored scored(const Candidate& candidate) const {
    return {plan_of(candidate), Duration{candidate.step_ps}, {candidate.memory}};
  }

  void find_pareto() {
    double limit = std::numeric_limits<double>::infinity();
    while (result_.pareto.size() < kMostParetoPlans) {
      const auto found = best_where([&](const Candidate& candidate) { return candidate.memory < limit; }, 1);
      if (found.empty()) return;
      result_.pareto.push_back(scored(fit_[found.front()]));
      limit = fit_[found.front()].memory * kParetoMemoryStep;
    }
  }

  void find_alternatives(const Plan& winner) {
    for (const Field& field : kAlternativeFields) {
      const FieldValues values = values_of(field);
      for (const auto& [value, id] : values.ids) {
        if (value == plan_field(winner, field.name)) continue;
        const auto found =
            best_where([&, id = id](const Candidate& candidate) { return values.id_of(candidate) == id; }, 1);
        if (!found.empty()) result_.alternatives.push_back({field.name, value, scored(fit_[found.front()])});
      }
    }
  }

  void find_other_schedules() {
    std::vector<Scored> reported = result_.best;
    reported.insert(reported.end(), result_.pareto.begin(), result_.pareto.end());
    for (const Alternative& alternative : result_.alternatives) reported.push_back(alternative.best);
    std::stable_sort(reported.begin(), reported.end(),
                     [](const Scored& a, const Scored& b) { return a.step < b.step; });
    std::vector<Plan> plans;
    for (const Scored& one : reported) {
      if (plans.size() == kPlansUnderOtherSchedules) break;
      if (std::find(plans.begin(), plans.end(), one.plan) == plans.end()) plans.push_back(one.plan);
    }
    result_.other_schedules = other_schedules(question_, plans);
  }

  FieldValues values_of(const Field& field) const {
    FieldValues values{.part = field.part, .ids = {}, .id_by_index = {}};
    for (const auto& table : tables_) {
      values.id_by_index.emplace_back();
      if (table->pipelines().empty()) continue;
      Plan plan = table->plan(0, 0);
      auto add = [&] {
        const int next = static_cast<int>(values.ids.size());
        values.id_by_index.back().push_back(values.ids.emplace(plan_field(plan, field.name), next).first->second);
      };
      if (field.part == PlanPart::kMesh) add();
      for (const Pipeline& pipeline : table->pipelines()) {
        if (field.part != PlanPart::kPipeline) break;
        apply(pipeline, plan);
        add();
      }
      for (const Variant& variant : table->variants()) {
        if (field.part != PlanPart::kVariant) break;
        apply(variant, plan);
        add();
      }
    }
    return values;
  }

  void find_near_misses();

  const Question& question_;
  const bool exhaustive_;
  std::vector<std::unique_ptr<MeshTable>> tables_;
  std::vector<Candidate> fit_;  // by bound
  std::vector<Candidate> too_big_;
  SearchResult result_;
};

// Plans whose bound beats the winner, kept out by memory alone: what is the least that would let them in?
void Search::find_near_misses() {
  std::sort(too_big_.begin(), too_big_.end(), [](const Candidate& a, const Candidate& b) {
    return a.bound_ps != b.bound_ps ? a.bound_ps < b.bound_ps : before(a, b);
  });
  for (const Candidate& candidate : too_big_) {
    if (result_.near_misses.size() == kNearMisses) return;
    NearMiss miss{.plan = plan_of(candidate)};
    miss.over = Bytes{candidate.memory} - question_.cluster.gpu.memory;
    const Program program = lower(question_.model, question_.cluster, miss.plan);
    miss.stage = static_cast<std::int64_t>(plan_memory(question_.model, question_.cluster, program).worst_stage);
    std::vector<std::pair<std::string, std::string>> changes;
    for (const char* set : {"norm+activation", "norm+activation+attention_out", "selective", "full"})
      changes.emplace_back("recompute", set);
    for (std::int64_t smaller = miss.plan.micro_batch / 2; smaller >= 1; smaller /= 2)
      changes.emplace_back("micro_batch", std::to_string(smaller));
    for (const char* zero : {"2", "3"}) changes.emplace_back("zero", zero);
    changes.emplace_back("optimizer_offload", "on");
    for (std::int64_t factor = 2; factor <= 4; factor *= 2) {
      changes.emplace_back("pp", std::to_string(miss.plan.pp * factor));
      changes.emplace_back("ep", std::to_string(miss.plan.ep * factor));
    }
    for (const auto& [field, value] : changes) {
      Plan changed = miss.plan;
      set_plan_field(changed, field, value);
      const auto fits = score_plan(question_, changed);
      if (fits && (miss.change.empty() || fits->step < miss.step)) {
        miss.change = field + "=" + value;
        miss.step = fits->step;
      }
    }
    result_.near_misses.push_back(std::move(miss));
  }
}

}  // namespace

SearchResult search(const Question& question, const SearchHooks& hooks, bool exhaustive) {
  return Search(question, exhaustive).run(hooks);
}

std::optional<Scored> fastest(const Question& question) { return Search(question, false).run_fastest(); }

SearchResult screen_space(const Question& question) { return Search(question, false).screen_only(); }

}  // namespace msmoe::planner
