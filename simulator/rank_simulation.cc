#include "simulator/rank_simulation.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>

#include "simulator/rank_component.h"

namespace msmoe::simulator {
namespace {

constexpr std::int64_t kDrawnSteps = 20;
constexpr std::size_t kSlowestRanks = 5;

using Parts = std::array<double, kNumTimeParts>;
double& at(Parts& parts, TimePart part) { return parts[static_cast<std::size_t>(part)]; }

class EveryRank {
 public:
  EveryRank(const Model& model, const Cluster& cluster, const Plan& plan, const RankOptions& options)
      : model_(model),
        plan_(plan),
        options_(options),
        costs_(cluster, plan),
        job_(model, cluster, plan, costs_),
        pp_(static_cast<std::size_t>(plan.pp)),
        width_(static_cast<std::size_t>(job_.width())) {
    if (options.jitter > 0) noise_ = std::make_unique<LognormalFactors>(options.jitter);
    lay_out_components();
    totals_.resize(components_.size());
    for (std::vector<RankTimes>& ranks : totals_) ranks.resize(pp_ * width_);
    parts_.resize(pp_);
  }

  void run() {
    const std::int64_t period = options_.routing.period();
    const std::int64_t steps = options_.steps > 0 ? options_.steps : noise_ || period == 0 ? kDrawnSteps : period;
    std::vector<ComponentStep> results(components_.size());
    for (std::int64_t step = 0; step < steps; ++step) {
      if (step == 0 || period != 1) job_.set_loads(rank_loads(options_.routing, model_, plan_, options_.seed, step));
      run_components(static_cast<std::uint64_t>(step), results);
      finish_step(results);
    }
  }

  void report(Prediction& prediction) const;

 private:
  struct Component {
    std::vector<double> factors;  // [stage * width + rank]
    std::int64_t first = 0;       // its number among those of the job
    std::int64_t copies = 1;      // components that are alike
    bool clean = true;            // no straggler
  };

  void lay_out_components() {
    const std::vector<double> factors = compute_factors(options_.stragglers, plan_.gpus, options_.seed);
    std::size_t clean = 0;
    bool has_clean = false;
    for (std::int64_t number = 0; number < job_.num_components(); ++number) {
      Component component{.factors = {}, .first = number};
      for (std::size_t stage = 0; stage < pp_; ++stage) {
        const auto first = factors.begin() + static_cast<std::ptrdiff_t>(stage) * job_.stage_ranks() +
                           number * static_cast<std::int64_t>(width_);
        component.factors.insert(component.factors.end(), first, first + static_cast<std::ptrdiff_t>(width_));
      }
      component.clean =
          std::all_of(component.factors.begin(), component.factors.end(), [](double factor) { return factor == 1; });
      of_component_.push_back(components_.size());
      if (component.clean && has_clean && !noise_) {
        of_component_.back() = clean;
        ++components_[clean].copies;
        continue;
      }
      if (component.clean) clean = components_.size();
      has_clean = has_clean || component.clean;
      components_.push_back(std::move(component));
    }
  }

  void run_components(std::uint64_t step, std::vector<ComponentStep>& results) {
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;
    const auto work = [&] {
      try {
        RankComponent component(job_);
        for (std::size_t c = next++; c < components_.size(); c = next++) {
          const auto number = static_cast<std::uint64_t>(components_[c].first);
          component.run(components_[c].factors, noise_.get(), draw_key({options_.seed, kJitterStream, step, number}),
                        results[c]);
        }
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        failure = std::current_exception();
      }
    };
    const int wanted =
        options_.threads > 0 ? options_.threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    std::vector<std::thread> threads;
    for (int thread = 1; thread < wanted && static_cast<std::size_t>(thread) < components_.size(); ++thread)
      threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
  }

  // When each stage's data stream has ended: reductions in the order of the backwards, each when its last component is
  // ready. What they lose beside slots is in the components' own times.
  std::vector<double> reductions(const std::vector<ComponentStep>& results) const {
    const PipelineTimes& times = job_.times();
    std::vector<double> ends(pp_, 0);
    for (std::size_t stage = 0; stage < pp_; ++stage) {
      double& end = ends[stage];
      for (const ComponentStep& result : results) end = std::max(end, result.data_end[stage]);
      if (!times.overlap_grad_reduce) {
        for (const ComponentStep& result : results) end = std::max(end, result.last_end[stage]);
        for (std::size_t v = stage; v < times.reduce.size(); v += pp_) end += static_cast<double>(times.reduce[v]);
        continue;
      }
      std::vector<std::pair<double, std::size_t>> ready;
      for (std::size_t v = stage; v < times.reduce.size(); v += pp_) {
        double latest = 0;
        for (const ComponentStep& result : results) latest = std::max(latest, result.reduce_ready[v]);
        ready.emplace_back(latest, v);
      }
      std::sort(ready.begin(), ready.end());
      double reduced = 0;
      for (const auto& [start, v] : ready) reduced = std::max(reduced, start) + static_cast<double>(times.reduce[v]);
      end = std::max(end, reduced);
    }
    return ends;
  }

  void finish_step(const std::vector<ComponentStep>& results) {
    const PipelineTimes& times = job_.times();
    const std::vector<double> reduced = reductions(results);
    std::vector<double> slots_end(pp_, 0);  // of the last component
    double done = *std::max_element(reduced.begin(), reduced.end());
    for (const ComponentStep& result : results) {
      for (std::size_t at = 0; at < result.ranks.size(); ++at) {
        slots_end[at / width_] = std::max(slots_end[at / width_], result.ranks[at].end);
        done = std::max(done, result.ranks[at].end);
      }
    }
    double optimizer = 0;  // a straggler's step waits for nobody but is waited for
    for (std::size_t c = 0; c < results.size(); ++c) {
      for (std::size_t at = 0; at < components_[c].factors.size(); ++at)
        optimizer = std::max(optimizer, static_cast<double>(times.optimizer[at / width_]) * components_[c].factors[at]);
    }
    steps_.push_back(done + static_cast<double>(times.norm) + optimizer);
    for (std::size_t c = 0; c < results.size(); ++c) add_component(c, results[c], reduced, slots_end, steps_.back());
  }

  void add_component(std::size_t c, const ComponentStep& result, const std::vector<double>& reduced,
                     const std::vector<double>& slots_end, double step) {
    const PipelineTimes& times = job_.times();
    const auto copies = static_cast<double>(components_[c].copies);
    for (std::size_t at_rank = 0; at_rank < result.ranks.size(); ++at_rank) {
      const std::size_t stage = at_rank / width_;
      const RankTimes& ran = result.ranks[at_rank];
      RankTimes& total = totals_[c][at_rank];
      const double optimizer = static_cast<double>(times.optimizer[stage]) * components_[c].factors[at_rank];
      // After its slots a rank waits for the slowest replica of its stage, then for the reduction, then for all stages.
      const double replicas = slots_end[stage] - ran.end;
      const double wires = std::max(0.0, reduced[stage] - slots_end[stage]) + static_cast<double>(times.norm);
      const double others = step - ran.end - replicas - wires - optimizer;
      total.busy += ran.busy + optimizer;
      total.wires += ran.wires + wires;
      for (std::size_t wait = 0; wait < total.waits.size(); ++wait) total.waits[wait] += ran.waits[wait];
      total.waits[static_cast<std::size_t>(RankWait::kReplicas)] += replicas + std::max(0.0, others);
      Parts& parts = parts_[stage];
      at(parts, TimePart::kUnevenRanks) += copies * replicas;
      at(parts, TimePart::kGradReduce) += copies * (wires - static_cast<double>(times.norm));
      at(parts, TimePart::kOptimizer) += copies * (static_cast<double>(times.norm) + optimizer);
    }
    for (std::size_t stage = 0; stage < pp_; ++stage)
      for (std::size_t part = 0; part < parts_[stage].size(); ++part)
        parts_[stage][part] += copies * result.parts[stage][part];
  }

  static constexpr std::uint64_t kJitterStream = 0x717e;  // apart from the draws of routing and stragglers

  const Model& model_;
  const Plan& plan_;
  const RankOptions& options_;
  CostModel costs_;
  RankJob job_;
  const std::size_t pp_, width_;
  std::unique_ptr<const LognormalFactors> noise_;
  std::vector<Component> components_;      // those that differ
  std::vector<std::size_t> of_component_;  // by number in the job: index of one that is alike
  // Sums over the steps.
  std::vector<double> steps_;
  std::vector<std::vector<RankTimes>> totals_;  // [component][stage * width + rank]
  std::vector<Parts> parts_;                    // by stage, over all its ranks
};

Duration mean(double sum, std::size_t count) { return Duration{std::llround(sum / static_cast<double>(count))}; }

void EveryRank::report(Prediction& prediction) const {
  const std::size_t num_steps = steps_.size();
  RankReport report;
  report.ranks = plan_.gpus;
  report.steps = static_cast<std::int64_t>(num_steps);
  report.distinct_components = static_cast<std::int64_t>(components_.size());
  std::vector<double> steps = steps_, busy, waiting;
  std::vector<RankLine> lines;
  std::array<double, kNumRankWaits> waits{};
  std::vector<double> stage_busy(pp_, 0);
  for (std::size_t number = 0; number < of_component_.size(); ++number) {
    const std::vector<RankTimes>& ranks = totals_[of_component_[number]];
    for (std::size_t at = 0; at < ranks.size(); ++at) {
      const std::size_t stage = at / width_;
      busy.push_back(ranks[at].busy / static_cast<double>(num_steps));
      waiting.push_back(ranks[at].waiting() / static_cast<double>(num_steps));
      stage_busy[stage] += ranks[at].busy + ranks[at].wires;
      RankLine line;
      line.rank = static_cast<std::int64_t>(stage) * job_.stage_ranks() +
                  static_cast<std::int64_t>(number * width_ + at % width_);
      line.stage = static_cast<std::int64_t>(stage);
      line.busy = mean(ranks[at].busy, num_steps);
      line.wires = mean(ranks[at].wires, num_steps);
      for (std::size_t wait = 0; wait < waits.size(); ++wait) {
        line.waits[wait] = mean(ranks[at].waits[wait], num_steps);
        waits[wait] += ranks[at].waits[wait];
      }
      lines.push_back(line);
    }
  }
  const auto slower = [](const RankLine& a, const RankLine& b) {
    return a.busy != b.busy ? a.busy > b.busy : a.rank < b.rank;
  };
  const auto kept = lines.begin() + static_cast<std::ptrdiff_t>(std::min(kSlowestRanks, lines.size()));
  std::partial_sort(lines.begin(), kept, lines.end(), slower);
  report.slowest.assign(lines.begin(), kept);
  report.step = spread_of(steps);
  report.busy = spread_of(busy);
  report.waiting = spread_of(waiting);
  for (std::size_t wait = 0; wait < waits.size(); ++wait)
    report.mean_waits[wait] = mean(waits[wait], num_steps * static_cast<std::size_t>(plan_.gpus));

  prediction.step = mean(std::accumulate(steps_.begin(), steps_.end(), 0.0), num_steps);
  prediction.busiest_stage =
      static_cast<std::size_t>(std::max_element(stage_busy.begin(), stage_busy.end()) - stage_busy.begin());
  Duration left = prediction.step;
  for (std::size_t part = 0; part < prediction.parts.size(); ++part) {
    prediction.parts[part] =
        mean(parts_[prediction.busiest_stage][part], num_steps * static_cast<std::size_t>(job_.stage_ranks()));
    left -= prediction.parts[part];
  }
  prediction.parts[static_cast<std::size_t>(TimePart::kBubble)] += left;  // all that a rank waits for other stages
  prediction.ranks = std::move(report);
}

}  // namespace

void simulate_every_rank(Prediction& prediction, const Model& model, const Cluster& cluster,
                         const RankOptions& options) {
  EveryRank every_rank(model, cluster, prediction.plan, options);
  every_rank.run();
  every_rank.report(prediction);
}

}  // namespace msmoe::simulator
