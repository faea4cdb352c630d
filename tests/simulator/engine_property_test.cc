// The engine on random jobs, against the checker of timelines, a naive simulator, and bounds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <vector>

#include "simulator/engine.h"
#include "tests/simulator/timeline_checker.h"

namespace msmoe::simulator {
namespace {

constexpr int kJobs = 400;

struct Timeline {
  std::vector<TaskRun> runs;
  RunResult result;
};

Timeline timeline_of(const Job& job) {
  Timeline timeline;
  timeline.result = run(job, [&](const TaskRun& task_run) { timeline.runs.push_back(task_run); });
  return timeline;
}

// Random jobs that can finish: messages go forwards in one total order of all slots, in which each device's are in
// theirs.
class RandomJobs {
 public:
  explicit RandomJobs(std::uint64_t seed) : random_(seed) {}

  Job next() {
    Job job;
    // Even times and shares make many ties; odd ones make few.
    plain_ = below(2) == 0;
    num_streams_ = 1 + below(kMaxStreams);
    for (std::int64_t blocks = 1 + below(3); blocks > 0; --blocks) job.blocks.push_back(block());
    job.devices.resize(1 + below(4));
    std::vector<std::pair<std::int32_t, std::int32_t>> order;  // device and slot
    for (std::int64_t slots = below(16); slots > 0; --slots) {
      const auto device = static_cast<std::int32_t>(below(job.devices.size()));
      order.emplace_back(device, job.devices[device].size());
      job.devices[device].push_back(static_cast<std::int32_t>(below(job.blocks.size())));
    }
    for (std::size_t to = 1; to < order.size(); ++to) {
      for (std::int64_t messages = below(3); messages > 0; --messages) {
        const auto [device, slot] = order[below(to)];
        const std::size_t tasks = job.blocks[job.devices[device][slot]].tasks.size();
        if (tasks == 0) continue;
        job.messages.push_back({device, slot, static_cast<std::int32_t>(below(tasks)), order[to].first,
                                order[to].second, below(2) * time()});
      }
    }
    std::shuffle(job.messages.begin(), job.messages.end(), random_);
    return job;
  }

 private:
  std::int64_t below(std::uint64_t limit) { return static_cast<std::int64_t>(random_() % limit); }
  std::int64_t time() {
    if (below(10) == 0) return 0;
    return plain_ ? 100 * (1 + below(8)) : 1 + below(1'000'000'000);
  }

  Block block() {
    Block block;
    block.tasks.resize(below(13));
    block.waits.resize(block.tasks.size());
    for (std::size_t t = 0; t < block.tasks.size(); ++t) {
      Task& task = block.tasks[t];
      task.alone_ps = time();
      task.holder = below(4) == 0;
      task.stream = static_cast<std::uint8_t>(below(num_streams_));
      for (float& share : task.share) {
        if (below(2) == 0) share = plain_ ? below(5) / 4.0f : below(1'000'001) * 1e-6f;
      }
      for (std::int64_t waits = t == 0 ? 0 : below(3); waits > 0; --waits) {
        block.waits[t].push_back(static_cast<std::int32_t>(below(t)));
      }
    }
    return block;
  }

  std::mt19937_64 random_;
  bool plain_ = false;
  std::uint64_t num_streams_ = 1;
};

// Every task of a job with its predecessors, for the two models below.
struct NaiveTask {
  TaskRun run;
  const Task* task;
  std::vector<std::pair<std::size_t, std::int64_t>> after;  // a task that must have ended, and so long ago
  double remaining = 0, start = -1, end = -1;
};

std::vector<NaiveTask> expand(const Job& job) {
  std::vector<NaiveTask> tasks;
  std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::size_t> index;
  for (std::int32_t d = 0; d < static_cast<std::int32_t>(job.devices.size()); ++d) {
    std::array<std::int64_t, kMaxStreams> last;
    last.fill(-1);
    for (std::int32_t s = 0; s < static_cast<std::int32_t>(job.devices[d].size()); ++s) {
      const Block& block = job.blocks[job.devices[d][s]];
      for (std::int32_t t = 0; t < static_cast<std::int32_t>(block.tasks.size()); ++t) {
        NaiveTask naive{{d, s, t, 0, 0}, &block.tasks[t], {}};
        std::int64_t& before = last[naive.task->stream];
        if (before >= 0) naive.after.emplace_back(before, 0);
        before = static_cast<std::int64_t>(tasks.size());
        for (std::int32_t wait : block.waits[t]) naive.after.emplace_back(index.at({d, s, wait}), 0);
        naive.remaining = static_cast<double>(naive.task->alone_ps);
        index[{d, s, t}] = tasks.size();
        tasks.push_back(naive);
      }
    }
  }
  for (const Message& message : job.messages) {
    const std::size_t sender = index.at({message.from_device, message.from_slot, message.from_task});
    for (NaiveTask& task : tasks) {
      if (task.run.device == message.to_device && task.run.slot == message.to_slot) {
        task.after.emplace_back(sender, message.latency_ps);
      }
    }
  }
  return tasks;
}

// Sets starts and ends in exact (not rounded) fluid time: at each step all that may start does, all rates are found
// anew, and the clock moves to the nearest end or arrival. Returns the slowest rate of a task that was not starved.
double simulate_naively(std::vector<NaiveTask>& tasks) {
  // Of a task that ends together with another the doubles may leave a trace, which a holder must not make wait.
  constexpr double kNothingLeft = 1e-3;
  double now = 0, slowest = 1;
  for (std::size_t left = tasks.size(); left > 0;) {
    double next = INFINITY;
    bool ended_at_once = false;
    for (NaiveTask& task : tasks) {
      if (task.start >= 0) continue;
      double ready = 0;
      for (const auto& [before, delay] : task.after) {
        ready = tasks[before].end < 0 ? INFINITY : std::max(ready, tasks[before].end + static_cast<double>(delay));
      }
      if (ready > now) {
        next = std::min(next, ready);
        continue;
      }
      task.start = now;
      if (task.remaining > 0) continue;
      task.end = now;
      --left;
      ended_at_once = true;
    }
    if (ended_at_once) continue;

    std::map<std::int32_t, std::vector<NaiveTask*>> running;  // by device
    for (NaiveTask& task : tasks) {
      if (task.start >= 0 && task.end < 0) running[task.run.device].push_back(&task);
    }
    std::map<NaiveTask*, double> rate;
    for (const auto& [device, those] : running) {
      std::vector<const Task*> demands;
      for (const NaiveTask* task : those) demands.push_back(task->task);
      const std::vector<double> rates = naive_rates(demands);
      for (std::size_t i = 0; i < those.size(); ++i) rate[those[i]] = rates[i];
    }
    for (const auto& [task, x] : rate) next = std::min(next, now + task->remaining / x);
    for (const auto& [task, x] : rate) {
      if (x > 1e-9) slowest = std::min(slowest, x);
      task->remaining -= x * (next - now);
      if (task->remaining > kNothingLeft) continue;
      task->end = next;
      --left;
    }
    now = next;
  }
  return slowest;
}

// The longest path with every task as if alone, by relaxation until nothing changes.
std::int64_t critical_path(const Job& job) {
  std::vector<NaiveTask> tasks = expand(job);
  std::vector<std::int64_t> end(tasks.size(), 0);
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      std::int64_t start = 0;
      for (const auto& [before, delay] : tasks[i].after) start = std::max(start, end[before] + delay);
      if (end[i] == start + tasks[i].task->alone_ps) continue;
      end[i] = start + tasks[i].task->alone_ps;
      changed = true;
    }
  }
  return end.empty() ? 0 : *std::max_element(end.begin(), end.end());
}

// FNV-1a over the fields of the runs in their order.
std::uint64_t fingerprint(const std::vector<TaskRun>& runs) {
  std::uint64_t hash = 14695981039346656037u;
  for (const TaskRun& run : runs) {
    for (std::int64_t field :
         {std::int64_t{run.device}, std::int64_t{run.slot}, std::int64_t{run.task}, run.start_ps, run.end_ps}) {
      hash = (hash ^ static_cast<std::uint64_t>(field)) * 1099511628211u;
    }
  }
  return hash;
}

TEST(EngineProperty, TimelinesAreConsistent) {
  RandomJobs jobs(1);
  std::size_t tasks = 0;
  for (int trial = 0; trial < kJobs; ++trial) {
    const Job job = jobs.next();
    const std::vector<TaskRun> runs = timeline_of(job).runs;
    const std::vector<std::string> wrongs = TimelineChecker(job, runs).check();
    ASSERT_TRUE(wrongs.empty()) << "job " << trial << ": " << wrongs.front();
    tasks += runs.size();
  }
  EXPECT_GT(tasks, 30u * kJobs);  // the jobs are not trivial
}

TEST(EngineProperty, AgreesWithTheNaiveSimulator) {
  RandomJobs jobs(2);
  for (int trial = 0; trial < kJobs; ++trial) {
    const Job job = jobs.next();
    std::vector<TaskRun> runs = timeline_of(job).runs;
    std::vector<NaiveTask> naive = expand(job);
    const double slowest = simulate_naively(naive);
    std::sort(runs.begin(), runs.end(), [](const TaskRun& a, const TaskRun& b) {
      return std::tie(a.device, a.slot, a.task) < std::tie(b.device, b.slot, b.task);
    });
    ASSERT_EQ(runs.size(), naive.size());
    // Each event may round by a tick of work, which takes 1 / x ticks at rate x.
    const double tolerance = static_cast<double>(runs.size()) / slowest;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(runs[i].start_ps), naive[i].start, tolerance) << "job " << trial << " task " << i;
      ASSERT_NEAR(static_cast<double>(runs[i].end_ps), naive[i].end, tolerance) << "job " << trial << " task " << i;
    }
  }
}

TEST(EngineProperty, MakespanIsBetweenTheCriticalPathAndTheSerialSum) {
  RandomJobs jobs(3);
  int contended = 0;
  for (int trial = 0; trial < kJobs; ++trial) {
    Job job = jobs.next();
    const RunResult result = run(job);
    std::int64_t serial = result.events;  // each may round by a tick
    for (const NaiveTask& task : expand(job)) serial += task.task->alone_ps;
    for (const Message& message : job.messages) serial += message.latency_ps;
    const std::int64_t critical = critical_path(job);
    ASSERT_GE(result.makespan_ps, critical);
    ASSERT_LE(result.makespan_ps, serial);
    contended += result.makespan_ps > critical;

    for (Block& block : job.blocks) {
      for (Task& task : block.tasks) task.share = {};
    }
    ASSERT_EQ(run(job).makespan_ps, critical) << "with nothing to share, job " << trial;
  }
  EXPECT_GT(contended, kJobs / 4);
}

TEST(EngineProperty, ResultSumsUpTheTimeline) {
  RandomJobs jobs(4);
  for (int trial = 0; trial < kJobs; ++trial) {
    const Job job = jobs.next();
    const auto [runs, result] = timeline_of(job);
    RunResult expected;
    expected.events = static_cast<std::int64_t>(runs.size());
    expected.device_end_ps.resize(job.devices.size());
    for (const std::vector<std::int32_t>& slots : job.devices) {
      expected.slot_start_ps.emplace_back(slots.size(), 0);
      expected.slot_end_ps.emplace_back(slots.size(), 0);
    }
    std::set<std::pair<std::int32_t, std::int32_t>> seen;
    for (const TaskRun& run : runs) {
      std::int64_t& start = expected.slot_start_ps[run.device][run.slot];
      std::int64_t& end = expected.slot_end_ps[run.device][run.slot];
      start = seen.insert({run.device, run.slot}).second ? run.start_ps : std::min(start, run.start_ps);
      end = std::max(end, run.end_ps);
      expected.device_end_ps[run.device] = std::max(expected.device_end_ps[run.device], run.end_ps);
      expected.makespan_ps = std::max(expected.makespan_ps, run.end_ps);
    }
    ASSERT_EQ(result.makespan_ps, expected.makespan_ps);
    ASSERT_EQ(result.events, expected.events);
    ASSERT_EQ(result.device_end_ps, expected.device_end_ps);
    ASSERT_EQ(result.slot_start_ps, expected.slot_start_ps);
    ASSERT_EQ(result.slot_end_ps, expected.slot_end_ps);
  }
}

// Two copies lie at other addresses; the order of the messages in the job does not matter.
TEST(EngineProperty, EqualJobsGiveEqualTimelines) {
  RandomJobs jobs(5);
  std::set<std::uint64_t> distinct;
  for (int trial = 0; trial < kJobs; ++trial) {
    const Job job = jobs.next();
    Job copy = job;
    std::reverse(copy.messages.begin(), copy.messages.end());
    const std::uint64_t hash = fingerprint(timeline_of(job).runs);
    ASSERT_EQ(fingerprint(timeline_of(copy).runs), hash);
    ASSERT_EQ(run(copy).makespan_ps, timeline_of(job).result.makespan_ps);
    distinct.insert(hash);
  }
  EXPECT_GT(distinct.size(), kJobs / 2u);
}

// The checker sees each fault put into a right timeline: two full tasks side by side, then one that waits for both.
TEST(TimelineChecker, SeesFaults) {
  const Job job{.blocks = {{.tasks = {{.alone_ps = 100, .share = {1, 0, 0, 0}},
                                      {.alone_ps = 100, .share = {1, 0, 0, 0}, .stream = 1},
                                      {.alone_ps = 50}},
                            .waits = {{}, {}, {1}}}},
                .devices = {{0}},
                .messages = {}};
  const std::vector<TaskRun> right = timeline_of(job).runs;
  ASSERT_TRUE(TimelineChecker(job, right).check().empty());
  const auto faults_of = [&](const std::vector<TaskRun>& runs) { return TimelineChecker(job, runs).check(); };
  const TaskRun a{0, 0, 0, 0, 200}, b{0, 0, 1, 0, 200}, c{0, 0, 2, 200, 250};
  EXPECT_EQ(faults_of({a, b}), (std::vector<std::string>{"2 tasks ran, of 3"}));
  EXPECT_EQ(faults_of({a, b, b}).front(), "device 0 slot 0 task 1 [0, 200] ran twice");
  EXPECT_EQ(faults_of({c, a, b}).front(), "device 0 slot 0 task 0 [0, 200] reported late");
  EXPECT_EQ(faults_of({a, b, {0, 0, 2, 199, 250}}).front(), "device 0 slot 0 task 2 [199, 250] started too early");
  EXPECT_EQ(faults_of({a, b, {0, 0, 2, 201, 251}}).front(), "device 0 slot 0 task 2 [201, 251] started too late");
  EXPECT_EQ(faults_of({a, b, {0, 0, 2, 200, 249}}).front(), "device 0 slot 0 task 2 [200, 249] ran faster than alone");
  EXPECT_EQ(faults_of({a, b, {0, 0, 2, 200, 260}}).front(), "device 0 slot 0 task 2 [200, 260] was served too much");
  // 200 of work by 100, and still by 150.
  EXPECT_EQ(faults_of({{0, 0, 0, 0, 100}, {0, 0, 1, 0, 100}, {0, 0, 2, 100, 150}}),
            (std::vector<std::string>{"device 0 slot 0 task 0 [0, 100] was served too little",
                                      "device 0 slot 0 task 1 [0, 100] was served too little",
                                      "device 0 slot 0 task 1 [0, 100] ends over capacity",
                                      "device 0 slot 0 task 2 [100, 150] ends over capacity"}));
}

}  // namespace
}  // namespace msmoe::simulator
