// The engine on jobs whose timelines are derived by hand. Times are in ticks (picoseconds).
#include "simulator/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace msmoe::simulator {
namespace {

constexpr std::array<float, kNumResources> kAllSms{1, 0, 0, 0};

std::string text_of(const std::vector<TaskRun>& runs) {
  std::string text;
  for (const TaskRun& run : runs) {
    text += std::to_string(run.device) + "." + std::to_string(run.slot) + "." + std::to_string(run.task) + " " +
            std::to_string(run.start_ps) + "-" + std::to_string(run.end_ps) + "\n";
  }
  return text;
}

// One line a task, in the order they end: "device.slot.task start-end".
std::string timeline(const Job& job) {
  std::vector<TaskRun> runs;
  run(job, [&](const TaskRun& task_run) { runs.push_back(task_run); });
  return text_of(runs);
}

std::string fault_of(const Job& job) {
  try {
    run(job);
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return "";
}

Job one_slot(Block block) { return {.blocks = {std::move(block)}, .devices = {{0}}, .messages = {}}; }

TEST(Engine, EmptyJobsEndAtOnce) {
  EXPECT_EQ(run({}).makespan_ps, 0);
  const RunResult result = run({.blocks = {{}}, .devices = {{0, 0}, {}}, .messages = {}});
  EXPECT_EQ(result.events, 0);
  EXPECT_EQ(result.makespan_ps, 0);
  EXPECT_EQ(result.slot_start_ps, (std::vector<std::vector<std::int64_t>>{{0, 0}, {}}));
  EXPECT_EQ(result.slot_end_ps, (std::vector<std::vector<std::int64_t>>{{0, 0}, {}}));
}

// 100 + 250 + 50, and once more.
TEST(Engine, ChainRunsInOrder) {
  const Block chain{.tasks = {{.alone_ps = 100}, {.alone_ps = 250}, {.alone_ps = 50}}, .waits = {}};
  const Job job{.blocks = {chain}, .devices = {{0, 0}}, .messages = {}};
  EXPECT_EQ(timeline(job), "0.0.0 0-100\n0.0.1 100-350\n0.0.2 350-400\n0.1.0 400-500\n0.1.1 500-750\n0.1.2 750-800\n");
  const RunResult result = run(job);
  EXPECT_EQ(result.makespan_ps, 800);
  EXPECT_EQ(result.events, 6);
  EXPECT_EQ(result.device_end_ps, (std::vector<std::int64_t>{800}));
  EXPECT_EQ(result.slot_start_ps, (std::vector<std::vector<std::int64_t>>{{0, 400}}));
  EXPECT_EQ(result.slot_end_ps, (std::vector<std::vector<std::int64_t>>{{400, 800}}));
}

// SM 0.5 + 0.5 fits: both as if alone.
TEST(Engine, StreamsRunInParallelWithoutContention) {
  EXPECT_EQ(timeline(one_slot({.tasks = {{.alone_ps = 100, .share = {0.5f, 0, 0, 0}},
                                         {.alone_ps = 70, .share = {0.5f, 0, 1, 0}, .stream = 1}},
                               .waits = {}})),
            "0.0.1 0-70\n0.0.0 0-100\n");
}

// Each at rate 1/2.
TEST(Engine, TwoFullTasksTakeTwiceAsLong) {
  EXPECT_EQ(timeline(one_slot(
                {.tasks = {{.alone_ps = 100, .share = kAllSms}, {.alone_ps = 100, .share = kAllSms, .stream = 1}},
                 .waits = {}})),
            "0.0.0 0-200\n0.0.1 0-200\n");
}

// Rate 1/3 each until the first ends, having done 30 in 90; then 1/2 each until the second has done its other 30 at
// 150; the last has 90 - 60 = 30 left.
TEST(Engine, ThoseLeftSpeedUpWhenOneEnds) {
  EXPECT_EQ(timeline(one_slot({.tasks = {{.alone_ps = 30, .share = kAllSms},
                                         {.alone_ps = 60, .share = kAllSms, .stream = 1},
                                         {.alone_ps = 90, .share = kAllSms, .stream = 2}},
                               .waits = {}})),
            "0.0.0 0-90\n0.0.1 0-150\n0.0.2 0-180\n");
}

// The kernel keeps its 20 of 132 SMs for 660 ticks, in which the GEMM does 660 x 112 / 132 = 560 of 1000; 440 are left.
TEST(Engine, HoldersKeepTheirSms) {
  EXPECT_EQ(
      timeline(one_slot({.tasks = {{.alone_ps = 1000, .share = kAllSms},
                                   {.alone_ps = 660, .share = {20.0f / 132, 0, 1, 0}, .holder = true, .stream = 1}},
                         .waits = {}})),
      "0.0.1 0-660\n0.0.0 0-1100\n");
}

// NVLink serves both at 1/2, until the first ends at 100. The GEMM has 3/4 of the SMs as long as the kernel runs, for
// all that this was slowed: to 150, having done 0.75 x 150 = 112.5 of 200. It ends 87.5 later, in whole ticks.
TEST(Engine, HoldersShareNvlink) {
  EXPECT_EQ(timeline(one_slot({.tasks = {{.alone_ps = 50, .share = {0, 0, 1, 0}},
                                         {.alone_ps = 100, .share = {0.25f, 0, 1, 0}, .holder = true, .stream = 1},
                                         {.alone_ps = 200, .share = kAllSms, .stream = 2}},
                               .waits = {}})),
            "0.0.0 0-100\n0.0.1 0-150\n0.0.2 0-238\n");
}

// The SMs are the holder's until 100; then the other has them alone.
TEST(Engine, StarvedTaskRunsWhenTheHolderEnds) {
  EXPECT_EQ(timeline(one_slot({.tasks = {{.alone_ps = 50, .share = kAllSms},
                                         {.alone_ps = 100, .share = kAllSms, .holder = true, .stream = 1}},
                               .waits = {}})),
            "0.0.1 0-100\n0.0.0 0-150\n");
}

// 0 -> 1 on the other stream -> 2 back on the first; 3 waits for nothing but stands behind 1.
TEST(Engine, WaitsCrossStreams) {
  EXPECT_EQ(
      timeline(one_slot(
          {.tasks = {{.alone_ps = 100}, {.alone_ps = 40, .stream = 1}, {.alone_ps = 10}, {.alone_ps = 5, .stream = 1}},
           .waits = {{}, {0}, {1}, {}}})),
      "0.0.0 0-100\n0.0.1 100-140\n0.0.3 140-145\n0.0.2 140-150\n");
}

// Stream 1 waits in slot 0 for task 0, so its task of slot 1 cannot pass; stream 2 has none in slot 0 and goes ahead.
TEST(Engine, WaitingHeadBlocksItsStreamAlone) {
  const Block first{.tasks = {{.alone_ps = 100}, {.alone_ps = 10, .stream = 1}}, .waits = {{}, {0}}};
  const Block second{.tasks = {{.alone_ps = 7, .stream = 1}, {.alone_ps = 20, .stream = 2}}, .waits = {}};
  const Job job{.blocks = {first, second}, .devices = {{0, 1}}, .messages = {}};
  EXPECT_EQ(timeline(job), "0.1.1 0-20\n0.0.0 0-100\n0.0.1 100-110\n0.1.0 110-117\n");
  EXPECT_EQ(run(job).slot_start_ps[0], (std::vector<std::int64_t>{0, 0}));
  EXPECT_EQ(run(job).slot_end_ps[0], (std::vector<std::int64_t>{110, 117}));
}

// Waits are for tasks of the same slot: in slot 1, task 1 waits for the second run of task 0.
TEST(Engine, WaitsAreWithinASlot) {
  const Block block{.tasks = {{.alone_ps = 100}, {.alone_ps = 30, .stream = 1}}, .waits = {{}, {0}}};
  EXPECT_EQ(timeline({.blocks = {block}, .devices = {{0, 0}}, .messages = {}}),
            "0.0.0 0-100\n0.0.1 100-130\n0.1.0 100-200\n0.1.1 200-230\n");
}

// The first task of device 0 ends at 100, its message arrives at 115; the second sends one without latency at 300.
TEST(Engine, MessagesArriveAfterTheirLatency) {
  const Block two{.tasks = {{.alone_ps = 100}, {.alone_ps = 200}}, .waits = {}};
  const Block one{.tasks = {{.alone_ps = 10}}, .waits = {}};
  Job job{.blocks = {two, one}, .devices = {{0}, {1, 1}}, .messages = {{0, 0, 0, 1, 0, 15}, {0, 0, 1, 1, 1, 0}}};
  EXPECT_EQ(timeline(job), "0.0.0 0-100\n1.0.0 115-125\n0.0.1 100-300\n1.1.0 300-310\n");
  // Two messages to slot 0: the later of 100 + 500 and 300 counts, and slot 1 stands behind it.
  job.messages = {{0, 0, 0, 1, 0, 500}, {0, 0, 1, 1, 0, 0}};
  EXPECT_EQ(timeline(job), "0.0.0 0-100\n0.0.1 100-300\n1.0.0 600-610\n1.1.0 610-620\n");
}

// A message between streams of one device: slot 1 has only stream 1, which would otherwise start at 0.
TEST(Engine, MessagesWithinADevice) {
  const Block first{.tasks = {{.alone_ps = 100}}, .waits = {}};
  const Block second{.tasks = {{.alone_ps = 30, .stream = 1}}, .waits = {}};
  EXPECT_EQ(timeline({.blocks = {first, second}, .devices = {{0, 1}}, .messages = {{0, 0, 0, 0, 1, 5}}}),
            "0.0.0 0-100\n0.1.0 105-135\n");
}

// Task 1 has no length: it ends when task 0 does, and frees task 2 and task 3 then.
TEST(Engine, TasksOfNoLengthEndAtOnce) {
  EXPECT_EQ(timeline(one_slot({.tasks = {{.alone_ps = 100, .share = kAllSms},
                                         {.alone_ps = 0, .share = kAllSms, .stream = 1},
                                         {.alone_ps = 20, .share = kAllSms, .stream = 1},
                                         {.alone_ps = 30}},
                               .waits = {{}, {0}, {}, {1}}})),
            "0.0.0 0-100\n0.0.1 100-100\n0.0.2 100-120\n0.0.3 100-130\n");
  EXPECT_EQ(run(one_slot({.tasks = {{.alone_ps = 0}}, .waits = {}})).events, 1);
}

// At 100 everything ends at once: by device, then by stream.
TEST(Engine, TiesGoByDeviceThenStream) {
  const Block block{.tasks = {{.alone_ps = 100, .stream = 1}, {.alone_ps = 100}}, .waits = {}};
  EXPECT_EQ(timeline({.blocks = {block}, .devices = {{0}, {0}, {0}}, .messages = {}}),
            "0.0.1 0-100\n0.0.0 0-100\n1.0.1 0-100\n1.0.0 0-100\n2.0.1 0-100\n2.0.0 0-100\n");
}

// Three stages, one forward each of 10 and a link of 1: the last ends at 10 + 1 + 10 + 1 + 10.
TEST(Engine, PipelineFills) {
  const Block block{.tasks = {{.alone_ps = 10}}, .waits = {}};
  const RunResult result =
      run({.blocks = {block}, .devices = {{0}, {0}, {0}}, .messages = {{1, 0, 0, 2, 0, 1}, {0, 0, 0, 1, 0, 1}}});
  EXPECT_EQ(result.device_end_ps, (std::vector<std::int64_t>{10, 21, 32}));
}

// Device 0 runs its slot 0, whose message reaches device 1. Its slot 1 waits for the last slot of device 1, whose first
// slot waits for the last one of device 0.
TEST(Engine, StuckJobNamesTheWaits) {
  const Block cross{.tasks = {{.alone_ps = 10}, {.alone_ps = 10, .stream = 1}}, .waits = {{}, {0}}};
  const Block aside{.tasks = {{.alone_ps = 5, .stream = 1}}, .waits = {}};
  const Block plain{.tasks = {{.alone_ps = 10}}, .waits = {}};
  const Job job{.blocks = {cross, plain, aside},
                .devices = {{2, 0, 1}, {1, 1}, {1}},
                .messages = {{1, 1, 0, 0, 1, 0}, {0, 2, 0, 1, 0, 0}, {0, 0, 0, 1, 0, 0}}};
  EXPECT_EQ(fault_of(job),
            "the job cannot finish"
            "; device 0 stream 0: slot 1 task 0 waits for a message of device 1 slot 1 task 0"
            "; device 0 stream 1: slot 1 task 1 waits for a message of device 1 slot 1 task 0"
            "; device 1 stream 0: slot 0 task 0 waits for a message of device 0 slot 2 task 0");
}

// Slot 0 waits for the message of slot 1, behind it. Stream 1 has nothing in slot 0, and waits in slot 1 for stream 0.
TEST(Engine, StuckJobNamesTasks) {
  const Block plain{.tasks = {{.alone_ps = 10}}, .waits = {}};
  const Block cross{.tasks = {{.alone_ps = 10}, {.alone_ps = 10, .stream = 1}}, .waits = {{}, {0}}};
  EXPECT_EQ(fault_of({.blocks = {plain, cross}, .devices = {{0, 1}}, .messages = {{0, 1, 1, 0, 0, 0}}}),
            "the job cannot finish"
            "; device 0 stream 0: slot 0 task 0 waits for a message of device 0 slot 1 task 1"
            "; device 0 stream 1: slot 1 task 1 waits for task 0 on stream 0");
}

TEST(Engine, MalformedJobsAreRefused) {
  const Block good{.tasks = {{.alone_ps = 10}}, .waits = {}};
  const auto fault_of_block = [](Block block) { return fault_of(one_slot(std::move(block))); };
  const auto fault_of_message = [&](Message message) {
    return fault_of({.blocks = {good}, .devices = {{0}, {0}}, .messages = {message}});
  };
  EXPECT_EQ(fault_of_block({.tasks = {{.alone_ps = -1}}, .waits = {}}),
            "malformed job: block: task time out of range (in 0, item 0)");
  EXPECT_NE(fault_of_block({.tasks = {{.alone_ps = 1}, {.alone_ps = 1, .stream = kMaxStreams}}, .waits = {}}), "");
  EXPECT_NE(fault_of_block({.tasks = {{.alone_ps = 1, .share = {0, 1.5f, 0, 0}}}, .waits = {}}), "");
  EXPECT_NE(fault_of_block({.tasks = {{.alone_ps = 1, .share = {0, 0, 0, std::nanf("")}}}, .waits = {}}), "");
  EXPECT_NE(fault_of_block({.tasks = {{.alone_ps = 1}}, .waits = {{0}}}), "");
  EXPECT_NE(fault_of_block({.tasks = {{.alone_ps = 1}}, .waits = {{-1}}}), "");
  EXPECT_NE(fault_of_block({.tasks = {}, .waits = {{}}}), "");
  EXPECT_NE(fault_of({.blocks = {good}, .devices = {{1}}, .messages = {}}), "");
  EXPECT_EQ(fault_of_message({0, 0, 0, 1, 0, 0}), "");
  EXPECT_NE(fault_of_message({2, 0, 0, 1, 0, 0}), "");
  EXPECT_NE(fault_of_message({0, 1, 0, 1, 0, 0}), "");
  EXPECT_NE(fault_of_message({0, 0, 1, 1, 0, 0}), "");
  EXPECT_NE(fault_of_message({0, 0, 0, 1, -1, 0}), "");
  EXPECT_NE(fault_of_message({0, 0, 0, 1, 0, -1}), "");
}

}  // namespace
}  // namespace msmoe::simulator
