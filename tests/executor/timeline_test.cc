// The measured timeline of a step: all ranks' operators in one trace, each once a micro-batch and pass.
#include "executor/training/timeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/plan_names.h"
#include "tests/executor/rank_processes.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/tiny_training.h"

namespace msmoe::executor {
namespace {

using nlohmann::json;
using Fields = std::vector<std::pair<const char*, const char*>>;

// Rank, pass, chunk, module, micro-batch, name: how often.
using Counts = std::map<std::tuple<int, std::string, int, int, int, std::string>, int>;

// What the program says that each rank runs, but for synchronization. REQUIRES a schedule that does not part backward.
Counts operators_of(const TinyModel& tiny, const Plan& plan) {
  const Program program = executable_program(tiny.model, tiny.cluster, plan);
  Counts counts;
  for (int rank = 0; rank < plan.gpus; ++rank) {
    const Stage& stage = program.stages[static_cast<std::size_t>(place_of(plan, rank).stage)];
    for (const Slot& slot : stage.slots) {
      const bool forward = slot.kind == SlotKind::kForward;
      const std::vector<std::int16_t>& modules = stage.chunks[static_cast<std::size_t>(slot.chunk)].modules;
      for (std::size_t position = 0; position < modules.size(); ++position) {
        const Module& module = program.modules[static_cast<std::size_t>(modules[position])];
        for (const Operator& op : forward ? module.forward : module.backward)
          if (op.pass != Pass::kSync)
            ++counts[{rank, forward ? "forward" : "backward", slot.chunk, position, slot.micro_batch, op.name}];
      }
    }
  }
  return counts;
}

Counts operators_in(const json& events) {
  Counts counts;
  for (const json& event : events) {
    const json& args = event.at("args");
    if (event.at("ph") != "X" || !args.contains("module")) continue;
    ++counts[{event.at("pid"), event.at("cat"), args.at("chunk"), args.at("module"), args.at("micro_batch"),
              event.at("name")}];
  }
  return counts;
}

void expect_no_overlap(const json& events) {
  std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> tracks;
  for (const json& event : events) {
    if (event.at("ph") != "X") continue;
    const double begin = event.at("ts");
    tracks[{event.at("pid"), event.at("tid")}].emplace_back(begin, begin + event.at("dur").get<double>());
  }
  for (auto& [track, times] : tracks) {
    std::sort(times.begin(), times.end());
    for (std::size_t i = 1; i < times.size(); ++i)
      EXPECT_LE(times[i - 1].second, times[i].first + 1e-5) << "process " << track.first << ", thread " << track.second;
  }
}

class TimelineTest : public testing::Test {
 protected:
  json trace(const Fields& fields) {
    plan_ = tiny_.plan();
    plan_.gpus = 2;
    for (const auto& [key, value] : fields) set_plan_field(plan_, key, value);
    EXPECT_TRUE(is_valid(tiny_.model, tiny_.cluster, plan_));
    const std::string path = folder_ / "trace.json";
    run_ranks(2, [&](int rank_idx, Rendezvous& rendezvous) {
      Communicators communicators(plan_, rank_idx, rendezvous);
      TinyRank rank(tiny_, plan_, rank_idx, [&](GroupKind kind) -> Communicator& { return communicators.of(kind); });
      Timeline timeline(rank.trainer, communicators.of(GroupKind::kWorld));
      rank.accumulate(0);  // of which nothing remains
      timeline.begin_step();
      rank.accumulate(1);
      rank.trainer.update({}, 0);
      timeline.write(path);
    });
    return json::parse(std::ifstream(path)).at("traceEvents");
  }
  // Names of what is not of a micro-batch on this rank, in the order in which they first appear.
  static std::vector<std::string> synchronization(const json& events, int rank) {
    std::vector<std::string> names;
    for (const json& event : events)
      if (event.at("ph") == "X" && event.at("pid") == rank && !event.at("args").contains("micro_batch") &&
          std::find(names.begin(), names.end(), event.at("name").get<std::string>()) == names.end())
        names.push_back(event.at("name"));
    return names;
  }
  static std::ptrdiff_t count(const json& events, int rank, const std::string& name) {
    return std::count_if(events.begin(), events.end(), [&](const json& event) {
      return event.at("ph") == "X" && event.at("pid") == rank && event.at("name") == name;
    });
  }

  const TinyModel tiny_{"qwen3_moe"};
  Plan plan_;
  ScratchFolder folder_;
};

TEST_F(TimelineTest, HasEveryOperatorOfTheProgram) {
  for (const Fields& fields : {Fields{{"ep", "2"}}, Fields{{"pp", "2"}, {"micro_batch", "2"}},
                               Fields{{"attention", "sp"}, {"attention_degree", "2"}, {"overlap", "intra"}},
                               Fields{{"attention", "tp"}, {"attention_degree", "2"}, {"recompute", "full"}}}) {
    const json events = trace(fields);
    SCOPED_TRACE(describe_plan(plan_));
    EXPECT_EQ(operators_in(events), operators_of(tiny_, plan_));
    expect_no_overlap(events);
  }
}

TEST_F(TimelineTest, HasSynchronizationAndTheOptimizer) {
  const json first = trace({{"zero", "1"}});
  for (const int rank : {0, 1})
    EXPECT_EQ(synchronization(first, rank),
              (std::vector<std::string>{"grad_reduce", "expert_grad_reduce", "grad_norm", "grad_norm_reduce", "adamw",
                                        "param_gather", "expert_param_gather"}));
  EXPECT_EQ(count(first, 0, "adamw"), 1);
  EXPECT_EQ(count(first, 0, "grad_norm"), 1);
  EXPECT_EQ(count(first, 1, "grad_norm_reduce"), 1);
  // A bucket of dense parameters a module, embedding and head among them.
  EXPECT_EQ(count(first, 1, "grad_reduce"), tiny_.model.num_layers() + 2);
  EXPECT_EQ(count(first, 1, "param_gather"), tiny_.model.num_layers() + 2);

  const json third = trace({{"zero", "3"}});
  const std::int64_t passes = plan_.micro_batches() * (tiny_.model.num_layers() + 2);
  EXPECT_EQ(count(third, 1, "param_gather"), 2 * passes);
  EXPECT_EQ(count(third, 1, "grad_reduce"), passes);
  EXPECT_EQ(synchronization(third, 0),
            (std::vector<std::string>{"param_gather", "expert_param_gather", "grad_reduce", "expert_grad_reduce",
                                      "grad_norm", "grad_norm_reduce", "adamw"}));
  expect_no_overlap(third);
}

TEST_F(TimelineTest, HasMessagesBetweenStages) {
  const json events = trace({{"pp", "2"}});
  for (const int rank : {0, 1}) EXPECT_EQ(count(events, rank, "pipeline_send"), plan_.micro_batches());
}

TEST_F(TimelineTest, NamesRanksAndStreams) {
  std::set<std::string> processes, threads;
  for (const json& event : trace({{"pp", "2"}})) {
    if (event.at("name") == "process_name") processes.insert(event.at("args").at("name"));
    if (event.at("name") == "thread_name") threads.insert(event.at("args").at("name"));
  }
  EXPECT_EQ(processes, (std::set<std::string>{"stage 0, rank 0", "stage 1, rank 1"}));
  EXPECT_EQ(threads, (std::set<std::string>{"communication", "compute", "data parallel", "pipeline"}));
}

}  // namespace
}  // namespace msmoe::executor
