#include "planner/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/error.h"
#include "core/text_file.h"
#include "core/units_text.h"
#include "planner/answer.h"
#include "planner/report.h"
#include "reports/json.h"
#include "reports/progress.h"
#include "simulator/explain.h"

namespace msmoe::planner {
namespace {

std::int64_t positive_count(const std::string& text, const char* flag) {
  const std::int64_t count = parse_count(text, {"", flag});
  if (count < 1) throw UserError("", flag, "'" + text + "' is not a positive number");
  return count;
}

Objective parse_objective(const std::string& name) {
  if (name == "time") return Objective::kTime;
  if (name == "cost") return Objective::kCost;
  if (name == "memory") return Objective::kMemory;
  const std::string nearest = nearest_word(name, {"time", "cost", "memory"});
  throw UserError(
      "", "--objective", "'" + name + "' is not an objective",
      (nearest.empty() ? "" : "did you mean '" + nearest + "'? ") + std::string("allowed: time, cost, memory"));
}

Question read_question(const Command& command) {
  const Cluster cluster = find_cluster(command.cluster);
  Plan base = base_plan(cluster.gpu);
  base.model = command.model;
  base.cluster = command.cluster;
  set_plan_field(base, "gpus", command.gpus);
  set_plan_field(base, "global_batch", command.global_batch);
  set_plan_field(base, "seq_len", command.seq_len);
  if (!command.precision.empty()) {
    set_plan_field(base, "precision", command.precision);
    set_precision(base, base.precision);
  }
  if (base.precision == Precision::kFp8) base.act_wire = WireFormat::kFp8;
  std::vector<simulator::Change> fixes;
  if (!command.fix.empty()) fixes = simulator::parse_changes(command.fix, "--fix");
  Question question = make_question(find_model(command.model), cluster, std::move(base), fixes);
  question.objective = parse_objective(command.objective);
  question.top = command.top;
  question.jobs = command.jobs > 0 ? command.jobs : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (question.objective == Objective::kCost && !question.cluster.price_per_gpu_hour) {
    throw UserError(command.cluster, "price_per_gpu_hour", "is missing, and --objective cost needs it",
                    "add it to the cluster file, or use --objective time: on a given number of GPUs both rank alike");
  }
  return question;
}

}  // namespace

int run(const Command& command) {
  const Question question = read_question(command);
  std::optional<double> tokens;
  if (!command.tokens.empty()) tokens = static_cast<double>(positive_count(command.tokens, "--tokens"));

  std::unique_ptr<reports::Progress> progress;
  SearchHooks hooks;
  hooks.start = [&](std::int64_t total) {
    progress = std::make_unique<reports::Progress>(total);
    progress->set_note("meshes screened");
  };
  hooks.advance = [&](std::int64_t done) { progress->advance(done); };
  const Answer result = answer(question, hooks);
  progress.reset();

  if (result.best.empty()) {
    const std::string text = no_plan_text(question, result.search);
    if (command.json) {
      fmt::print("{}", reports::dump_json(reports::error_json(kExitNo, "no plan fits", text)));
    } else {
      fmt::print("{}", text);
    }
    return kExitNo;
  }
  const Plan& winner = result.best.front().plan;
  if (!command.output.empty()) write_text_file(command.output, plan_to_json(winner));
  if (!command.trace.empty()) simulator::predict(question.model, question.cluster, winner, {.trace = command.trace});
  if (command.json) {
    fmt::print("{}", reports::dump_json(to_json(question, result, tokens)));
    return kExitDone;
  }
  fmt::print("{}", to_text(question, result, tokens, reports::Style::for_stream(1)));
  if (command.explain) fmt::print("\n{}", simulator::explain(question.model, question.cluster, winner, 1));
  return kExitDone;
}

}  // namespace msmoe::planner
