// Properties that every prediction has, on random plans.
#include "simulator/prediction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "simulator/cost_model.h"
#include "simulator/job.h"
#include "tests/planner/random_plans.h"
#include "tests/simulator/timeline_checker.h"

namespace msmoe::simulator {
namespace {

std::string describe(const RandomPlan& sample) {
  return sample.plan.model + " on " + sample.plan.cluster + ", " + describe_plan(sample.plan);
}

struct Exact {
  explicit Exact(const RandomPlan& sample)
      : program(lower(sample.model, sample.cluster, sample.plan)),
        costs(sample.cluster, sample.plan),
        indexed(make_job(program, sample.model, costs)) {}
  std::size_t num_tasks() const {
    std::size_t count = 0;
    for (const auto& slots : indexed.job.devices)
      for (const std::int32_t block : slots) count += indexed.job.blocks[static_cast<std::size_t>(block)].tasks.size();
    return count;
  }
  Program program;
  CostModel costs;
  IndexedJob indexed;
};

TEST(Prediction, PartsAddUpToTheStep) {
  RandomPlans plans(11, /*others_too=*/true);
  for (int i = 0; i < 200; ++i) {
    const RandomPlan sample = plans.next();
    for (const bool exact : {false, true}) {
      if (exact && i % 2 != 0) continue;
      const Prediction prediction = predict(sample.model, sample.cluster, sample.plan, {.exact = exact});
      Duration sum{};
      for (int part = 0; part < kNumTimeParts; ++part) {
        EXPECT_GE(prediction.parts[static_cast<std::size_t>(part)].count(), 0)
            << time_part_name(static_cast<TimePart>(part)) << (exact ? ", exact: " : ": ") << describe(sample);
        sum += prediction.parts[static_cast<std::size_t>(part)];
      }
      EXPECT_EQ(sum, prediction.step) << describe(sample);
      EXPECT_LT(prediction.exposed_communication(), prediction.step);
      EXPECT_GT(prediction.mfu(), 0);
      EXPECT_LT(prediction.mfu(), 1);
    }
  }
}

// The definitions: tokens of a step over its time, and model FLOPs of those tokens over the peak of all GPUs.
TEST(Prediction, RatesFollowFromTheStep) {
  const Plan plan = find_plan("megascale-moe-352b");
  const Prediction prediction = predict(find_model(plan.model), find_cluster(plan.cluster), plan);
  const double step = to_seconds(prediction.step);
  EXPECT_DOUBLE_EQ(prediction.tokens_per_second(), 720 * 8192 / step);
  EXPECT_DOUBLE_EQ(prediction.tokens_per_second_per_gpu(), 720 * 8192 / step / 1440);
  // 282.5 GFLOP a token at a sequence of 8192, H800's 989 TFLOP/s.
  EXPECT_NEAR(prediction.mfu(), 282.5e9 * 720 * 8192 / step / 1440 / 989e12, 0.001);
}

// The longest chain of tasks that must follow each other: on a stream, by a wait, or by a message.
std::int64_t critical_path_ps(const Job& job) {
  std::map<std::pair<std::int32_t, std::int32_t>, std::vector<const Message*>> inbox;
  for (const Message& message : job.messages) inbox[{message.to_device, message.to_slot}].push_back(&message);
  std::vector<std::vector<std::vector<std::int64_t>>> end(job.devices.size());
  std::vector<std::array<std::int64_t, kMaxStreams>> stream_end(job.devices.size());
  std::vector<std::size_t> next(job.devices.size());
  std::int64_t longest = 0;
  // Slots in each device's order, once all that send to them are done.
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t d = 0; d < job.devices.size(); ++d) {
      for (; next[d] < job.devices[d].size(); ++next[d]) {
        std::int64_t ready = 0;
        bool complete = true;
        for (const Message* message : inbox[{static_cast<std::int32_t>(d), static_cast<std::int32_t>(next[d])}]) {
          const auto& sent = end[static_cast<std::size_t>(message->from_device)];
          const auto slot = static_cast<std::size_t>(message->from_slot);
          complete = complete && slot < sent.size();
          if (complete)
            ready = std::max(ready, sent[slot][static_cast<std::size_t>(message->from_task)] + message->latency_ps);
        }
        if (!complete) break;
        const Block& block = job.blocks[static_cast<std::size_t>(job.devices[d][next[d]])];
        std::vector<std::int64_t> ends;
        for (std::size_t t = 0; t < block.tasks.size(); ++t) {
          std::int64_t& stream = stream_end[d][block.tasks[t].stream];
          std::int64_t start = std::max(ready, stream);
          if (t < block.waits.size())
            for (const std::int32_t wait : block.waits[t])
              start = std::max(start, ends[static_cast<std::size_t>(wait)]);
          stream = start + block.tasks[t].alone_ps;
          ends.push_back(stream);
          longest = std::max(longest, stream);
        }
        end[d].push_back(std::move(ends));
        moved = true;
      }
    }
  }
  return longest;
}

std::int64_t serial_ps(const Job& job) {
  std::int64_t sum = 0;
  for (const auto& slots : job.devices)
    for (const std::int32_t block : slots)
      for (const Task& task : job.blocks[static_cast<std::size_t>(block)].tasks) sum += task.alone_ps;
  return sum;
}

// Nothing is faster than its longest chain. Nothing is slower than one task after another: whenever tasks share a
// resource, their rates add up to 1 or more, since none uses more than all of it. Each end is rounded up by a tick.
TEST(Prediction, CriticalPathAndSerialSumBoundTheExactStep) {
  RandomPlans plans(12);
  for (int i = 0; i < 60; ++i) {
    const RandomPlan sample = plans.next();
    const Exact exact(sample);
    const std::int64_t step = run(exact.indexed.job).makespan_ps;
    EXPECT_GE(step, critical_path_ps(exact.indexed.job)) << describe(sample);
    EXPECT_LE(step, serial_ps(exact.indexed.job) + static_cast<std::int64_t>(exact.num_tasks())) << describe(sample);
    EXPECT_EQ(step, predict(sample.model, sample.cluster, sample.plan, {.exact = true}).step.count());
  }
}

TEST(Prediction, TimelinesOfRandomPlansAreConsistent) {
  RandomPlans plans(13);
  for (int checked = 0; checked < 20;) {
    const RandomPlan sample = plans.next();
    const Exact exact(sample);
    if (exact.num_tasks() > 6000) continue;  // the checker is quadratic in the tasks of a device
    ++checked;
    std::vector<TaskRun> runs;
    run(exact.indexed.job, [&](const TaskRun& task) { runs.push_back(task); });
    EXPECT_EQ(TimelineChecker(exact.indexed.job, runs).check(), std::vector<std::string>{}) << describe(sample);
  }
}

TEST(Prediction, SameInputSameOutput) {
  RandomPlans plans(14);
  for (int i = 0; i < 20; ++i) {
    const RandomPlan sample = plans.next();
    for (const bool exact : {false, true}) {
      const Prediction one = predict(sample.model, sample.cluster, sample.plan, {.exact = exact});
      const Prediction two = predict(sample.model, sample.cluster, sample.plan, {.exact = exact});
      EXPECT_EQ(one.step, two.step);
      EXPECT_EQ(one.parts, two.parts);
      EXPECT_EQ(one.events, two.events);
    }
  }
}

// ---- What must not make a step shorter, or longer. From ZeRO-2 on, layers exchange weights and gradients of their own
// beside everything else; what changes the length of one task may then change which tasks meet, and a faster part may
// make a slower whole (Graham's anomaly, SIAM J. Appl. Math. 17, 1969). So those plans get a margin. The others get a
// small one: a pair's slow-down is of what the transfer takes while it lasts, and a quicker one takes more.
double margin(const Plan& plan) { return plan.zero >= 2 ? 1.05 : 1.005; }

TEST(Prediction, MoreNetworkBandwidthIsNeverSlower) {
  RandomPlans plans(15);
  for (int i = 0; i < 300; ++i) {
    const RandomPlan sample = plans.next();
    Cluster faster = sample.cluster;
    faster.nic = faster.nic * 2;
    EXPECT_LE(to_seconds(predict(sample.model, faster, sample.plan).step),
              to_seconds(predict(sample.model, sample.cluster, sample.plan).step) * margin(sample.plan))
        << describe(sample);
  }
}

TEST(Prediction, ImbalanceIsNeverFaster) {
  RandomPlans plans(16);
  for (int i = 0; i < 300; ++i) {
    const RandomPlan sample = plans.next();
    double before = 0;
    for (const double imbalance : {1.0, 1.1, 1.5, 2.0}) {
      const double step = to_seconds(predict(sample.model, sample.cluster, sample.plan, {.imbalance = imbalance}).step);
      EXPECT_GE(step * margin(sample.plan), before) << imbalance << ": " << describe(sample);
      before = step;
    }
  }
}

// Twice the replicas share the same batch of at least 16 micro-batches a stage. Below ZeRO-2, where a replica costs no
// more than its part of one reduction: with ZeRO-3 the second replica brings an exchange to each layer.
TEST(Prediction, MoreReplicasAreNeverSlower) {
  RandomPlans plans(17);
  for (int i = 0; i < 300; ++i) {
    const RandomPlan sample = plans.next();
    if (sample.plan.zero >= 2) continue;
    Plan few = sample.plan;
    few.global_batch *= 16;
    Plan many = few;
    many.gpus *= 2;
    ASSERT_TRUE(is_valid(sample.model, sample.cluster, many)) << describe(sample);
    EXPECT_LE(predict(sample.model, sample.cluster, many).step, predict(sample.model, sample.cluster, few).step)
        << describe(sample);
  }
}

}  // namespace
}  // namespace msmoe::simulator
