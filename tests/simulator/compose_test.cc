#include "simulator/compose.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "core/schedule.h"

namespace msmoe::simulator {
namespace {

// Every slot of every virtual stage alike; no sends, no data-parallel
// collectives, nothing after the last slot.
PipelineTimes uniform_times(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t micro_batches,
                            std::int64_t forward, std::int64_t backward, std::int64_t weight = 0,
                            std::int64_t merged = 0) {
  const auto with_nothing_beside = [](std::int64_t alone) { return SlotTimes{alone, {alone, alone}, {alone, alone}}; };
  PipelineTimes times;
  times.schedule = schedule;
  times.pp = pp;
  times.vpp = vpp;
  times.micro_batches = micro_batches;
  const auto virtual_stages = static_cast<std::size_t>(pp * vpp);
  times.forward.assign(virtual_stages, forward);
  times.backward.assign(virtual_stages, backward);
  times.forward_beside_data = times.forward_beside_send = {virtual_stages, {forward, forward}};
  times.backward_beside_data = times.backward_beside_send = {virtual_stages, {backward, backward}};
  times.backward_input.assign(virtual_stages, with_nothing_beside(backward - weight));
  times.backward_weight.assign(virtual_stages, with_nothing_beside(weight));
  const std::int64_t chunks = schedule == PipelineSchedule::kDualPipe ? 2 : vpp;
  times.merged.assign(static_cast<std::size_t>(pp * chunks * chunks), with_nothing_beside(merged));
  times.gather.assign(virtual_stages, 0);
  times.reduce.assign(virtual_stages, 0);
  times.optimizer.assign(static_cast<std::size_t>(pp), 0);
  return times;
}

PipelineTimes random_times(std::mt19937_64& random) {
  const auto number = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  PipelineShape shape{static_cast<PipelineSchedule>(number(0, 4)), number(1, 7), 1, number(1, 25), number(0, 3) == 0};
  switch (shape.schedule) {
    case PipelineSchedule::k1F1B: shape.pp = shape.merge_passes ? 1 : shape.pp; break;
    case PipelineSchedule::kInterleaved:
      shape.vpp = number(1, 4);
      shape.micro_batches = number(shape.pp, 4 * shape.pp);
      break;
    case PipelineSchedule::kZbV: shape.vpp = 2; [[fallthrough]];
    case PipelineSchedule::kZbH1: shape.merge_passes = false; break;
    case PipelineSchedule::kDualPipe:
      shape.pp = 2 * number(1, 3);
      shape.micro_batches = 2 * number(shape.pp, 2 * shape.pp);
      shape.merge_passes = false;
  }
  PipelineTimes times = uniform_times(shape.schedule, shape.pp, shape.vpp, shape.micro_batches, 0, 0);
  times.merge_passes = shape.merge_passes;
  // At most twice as slow, which the other, at half its rate or more, makes up for.
  const auto beside = [&](std::int64_t alone) {
    const std::int64_t slot = alone + number(0, alone);
    return Beside{slot, slot - number(0, slot / 2)};
  };
  const std::int64_t longest_collective = number(0, 1) * number(0, 5'000'000);
  for (std::size_t v = 0; v < times.forward.size(); ++v) {
    times.forward[v] = number(0, 1'000'000);
    times.backward[v] = number(0, 2'000'000);
    times.forward_beside_data[v] = beside(times.forward[v]);
    times.backward_beside_data[v] = beside(times.backward[v]);
    times.forward_beside_send[v] = beside(times.forward[v]);
    times.backward_beside_send[v] = beside(times.backward[v]);
    times.gather[v] = number(0, longest_collective);
    times.reduce[v] = number(0, longest_collective);
  }
  for (std::vector<SlotTimes>* slots : {&times.backward_input, &times.backward_weight, &times.merged}) {
    for (SlotTimes& slot : *slots) {
      slot.alone = number(0, 2'000'000);
      slot.data = beside(slot.alone);
      slot.send = beside(slot.alone);
    }
  }
  for (std::int64_t& optimizer : times.optimizer) optimizer = number(0, 300'000);
  times.send = number(0, 1) * number(0, 1'500'000);
  times.norm = number(0, 50'000);
  times.overlap_p2p = number(0, 1) == 1;
  times.overlap_param_gather = number(0, 1) == 1;
  times.overlap_grad_reduce = number(0, 1) == 1;
  return times;
}

// The definition played out slot by slot: stages take turns, each running slots
// until one lacks its message.
class SlowComposition {
 public:
  explicit SlowComposition(const PipelineTimes& times) : times_(times), shape_(times.shape()) {
    for (std::int64_t stage = 0; stage < times.pp; ++stage) {
      slots_.push_back(stage_slots(shape_, stage));
      std::int64_t gathered = 0;
      for (std::int64_t chunk = 0; chunk < shape_.chunks(); ++chunk) {
        gathered += times.gather[shape_.virtual_stage(stage, chunk)];
        collective_ends_[stage].push_back(gathered);
      }
      if (!times.overlap_param_gather) free_[stage] = gathered;
    }
    while (advance()) {
    }
  }

  std::int64_t step() {
    std::int64_t done = 0;
    for (std::int64_t stage = 0; stage < times_.pp; ++stage) {
      if (!times_.overlap_grad_reduce) {
        for (std::int64_t chunk = shape_.chunks() - 1; chunk >= 0; --chunk) reduce(stage, chunk, last_end_[stage]);
      }
      done = std::max({done, free_[stage], collective_ends_[stage].back()});
    }
    return done + times_.norm + *std::max_element(times_.optimizer.begin(), times_.optimizer.end());
  }

 private:
  bool advance() {
    bool moved = false;
    for (std::int64_t stage = 0; stage < times_.pp; ++stage) {
      while (next_[stage] < slots_[stage].size() && run(stage, slots_[stage][next_[stage]])) {
        ++next_[stage];
        moved = true;
      }
    }
    return moved;
  }

  struct Pass {
    bool backward;
    std::int64_t v, micro_batch;
  };

  bool run(std::int64_t stage, const Slot& slot) {
    const std::int64_t last = shape_.virtual_stages() - 1;
    std::vector<Pass> passes;
    if (slot.runs_forward()) passes.push_back({false, shape_.virtual_stage(stage, slot.chunk), slot.micro_batch});
    if (slot.makes_input_gradients())
      passes.push_back({true, shape_.virtual_stage(stage, slot.gradient_chunk()), slot.gradient_micro_batch()});
    std::int64_t start = free_[stage];
    for (const Pass& pass : passes) {
      if (pass.backward ? pass.v == last : pass.v == 0) continue;
      const auto producer = arrivals_.find({pass.backward, pass.backward ? pass.v + 1 : pass.v - 1, pass.micro_batch});
      if (producer == arrivals_.end()) return false;
      start = std::max(start, producer->second);
    }
    if (slot.runs_forward() && started_.insert({stage, slot.chunk}).second)
      start = std::max(start, collective_ends_[stage][slot.chunk]);
    const SlotTimes times = times_.slot(stage, slot);
    const std::int64_t end = work(stage, start, times.alone, times.data, times.send);
    last_end_[stage] = free_[stage] = end;
    for (const Pass& pass : passes) {
      if (pass.v == (pass.backward ? 0 : last)) continue;
      std::int64_t& arrival = arrivals_[{pass.backward, pass.v, pass.micro_batch}];
      arrival = free_[stage];
      if (!shape_.sends(pass.backward ? pass.v - 1 : pass.v)) continue;
      wire_free_[stage] = std::max(wire_free_[stage], free_[stage]) + times_.send;
      arrival = wire_free_[stage];
      if (!times_.overlap_p2p) free_[stage] += times_.send;
    }
    const auto reductions = [&](const Slot& other) {
      return other.makes_weight_gradients() && other.gradient_chunk() == slot.gradient_chunk();
    };
    const bool completes = std::none_of(slots_[stage].begin() + static_cast<std::ptrdiff_t>(next_[stage]) + 1,
                                        slots_[stage].end(), reductions);
    if (slot.makes_weight_gradients() && completes && times_.overlap_grad_reduce) {
      reduce(stage, slot.gradient_chunk(), end);
    }
    return true;
  }

  void reduce(std::int64_t stage, std::int64_t chunk, std::int64_t from) {
    const std::int64_t start = std::max(from, collective_ends_[stage].back());
    collective_ends_[stage].push_back(start + times_.reduce[shape_.virtual_stage(stage, chunk)]);
  }

  // Both run at the rates that they have beside each other until one is done, then the one left at its own.
  struct Delays {
    double slot, other;
  };
  static Delays delays(std::int64_t alone, const Beside& beside, double other_left) {
    const double slot_time = static_cast<double>(beside.slot), rate = static_cast<double>(beside.other) / slot_time;
    if (beside.slot == 0 || other_left > rate * slot_time) {
      return {slot_time - static_cast<double>(alone), slot_time - static_cast<double>(beside.other)};
    }
    const double together = other_left / rate;
    const double left = static_cast<double>(alone) * (1 - together / slot_time);
    return {together + left - static_cast<double>(alone), together - other_left};
  }

  std::int64_t work(std::int64_t stage, std::int64_t start, std::int64_t alone, const Beside& data,
                    const Beside& send) {
    double end = static_cast<double>(start + alone);
    const auto meet = [&](std::int64_t& other_end, const Beside& beside) {
      if (other_end <= start) return 0.0;
      const Delays met = delays(alone, beside, static_cast<double>(other_end - start));
      other_end += std::llround(met.other);
      return met.slot;
    };
    end += meet(wire_free_[stage], send);
    double by_data = 0;  // the last collective's, which is the longest
    for (std::int64_t& collective_end : collective_ends_.at(stage)) {
      by_data = std::max(by_data, meet(collective_end, data));
    }
    return std::llround(end + by_data);
  }

  const PipelineTimes& times_;
  const PipelineShape shape_;
  std::vector<std::vector<Slot>> slots_;
  std::map<std::int64_t, std::vector<std::int64_t>> collective_ends_;  // by stage, in order; gathers first
  std::map<std::int64_t, std::int64_t> free_, last_end_, wire_free_;   // by stage
  std::map<std::int64_t, std::size_t> next_;
  std::set<std::pair<std::int64_t, std::int64_t>> started_;                        // stages' chunks
  std::map<std::tuple<bool, std::int64_t, std::int64_t>, std::int64_t> arrivals_;  // of what a slot sends
};

// Forward 10, backward 20, send 1, two stages, three micro-batches. Stage 0: F0
// 0-10, F1 10-20. Stage 1: F0 11-21, B0 21-41, F1 41-51, B1 51-71. Stage 0: B0
// from 42 to 62, F2 62-72, B1 from 72 to 92. Stage 1: F2 from 73 to 83 (it was
// free at 71), B2 83-103. Stage 0: B2 104-124. Then norm 3 and the slower
// optimizer, 7: 134. Stage 0 works 90 of the 124. Its waits: 22 before B0, 12
// before B2, of each 1 for the message alone. Stage 1 waits 11 before F0 (1 for
// the message) and 2 before F2 (1 for the message), then from 103 to the end at
// 124, and 2 more while stage 0 runs its optimizer.
TEST(Compose, OneForwardOneBackwardByHand) {
  PipelineTimes times = uniform_times(PipelineSchedule::k1F1B, 2, 1, 3, 10, 20);
  times.send = 1;
  times.norm = 3;
  times.optimizer = {7, 5};
  Composer composer;
  const Composition& composition = composer.compose(times);
  EXPECT_EQ(composition.step_ps, 134);
  EXPECT_EQ(composition.stages[0].last_slot_end_ps, 124);
  EXPECT_EQ(composition.stages[0].busy_ps, 90);
  EXPECT_EQ(composition.stages[0].exposed_send_ps, 2);
  EXPECT_EQ(composition.stages[0].bubble_ps, 32);
  EXPECT_EQ(composition.stages[1].last_slot_end_ps, 103);
  EXPECT_EQ(composition.stages[1].exposed_send_ps, 2);
  EXPECT_EQ(composition.stages[1].bubble_ps, 10 + 1 + 21 + 2);
}

// Without overlap the compute stream is busy for 1 after each send. Stage 0: F0
// 0-10 (11), F1 11-21 (22). Stage 1: F0 11-21, B0 21-41 (42), F1 42-52, B1
// 52-72 (73). Stage 0: B0 42-62, F2 62-72 (73). Stage 1: F2 73-83, B2 83-103
// (104). Stage 0: B1 73-93, B2 104-124.
TEST(Compose, SendsOnTheComputeStream) {
  PipelineTimes times = uniform_times(PipelineSchedule::k1F1B, 2, 1, 3, 10, 20);
  times.send = 1;
  times.overlap_p2p = false;
  Composer composer;
  const Composition& composition = composer.compose(times);
  EXPECT_EQ(composition.step_ps, 124);
  // Three sends on the compute stream, and 1 of the wait from 22 to 42 and of
  // that from 93 to 104.
  EXPECT_EQ(composition.stages[0].exposed_send_ps, 3 + 2);
}

// One stage, one micro-batch of forward 100 (150 beside data) and backward 200
// (400). The gather of 30 comes first, alone. Backward ends at 330; the
// reduction of 50 is exposed; optimizer 10.
TEST(Compose, GatherAndReduceOfASingleSlotAreExposed) {
  PipelineTimes times = uniform_times(PipelineSchedule::k1F1B, 1, 1, 1, 100, 200);
  times.forward_beside_data = {{150, 150}};
  times.backward_beside_data = {{400, 400}};
  times.gather = {30};
  times.reduce = {50};
  times.optimizer = {10};
  Composer composer;
  const Composition& composition = composer.compose(times);
  EXPECT_EQ(composition.step_ps, 30 + 100 + 200 + 50 + 10);
  EXPECT_EQ(composition.stages[0].exposed_gather_ps, 30);
  EXPECT_EQ(composition.stages[0].exposed_reduce_ps, 50);
  EXPECT_EQ(composition.stages[0].slowed_ps, 0);
  EXPECT_EQ(composition.stages[0].bubble_ps, 0);
}

// One stage of two chunks, one micro-batch; order F0 F1 B1 B0. Gathers of 40
// and 60 run from 0 to 40 and to 100. F0 starts at 40 and is covered for 60 of
// the 150 it takes beside data: 60 / 150 = 40 % done at 100, so it ends at 100
// + 60 = 160. F1 160-260, B1 260-460. The reduction of chunk 1, 1000, covers
// all of B0: 460-860. The reduction of chunk 0, 5, follows at 1460: 1465.
// Collectives do not suffer here.
TEST(Compose, CollectivesSlowTheSlotsBesideThem) {
  PipelineTimes times = uniform_times(PipelineSchedule::kInterleaved, 1, 2, 1, 100, 200);
  times.forward_beside_data = {{150, 150}, {150, 150}};
  times.backward_beside_data = {{400, 400}, {400, 400}};
  times.gather = {40, 60};
  times.reduce = {5, 1000};
  Composer composer;
  const Composition& overlapped = composer.compose(times);
  EXPECT_EQ(overlapped.step_ps, 1465);
  EXPECT_EQ(overlapped.stages[0].slowed_ps, 20 + 200);
  EXPECT_EQ(overlapped.stages[0].exposed_gather_ps, 40);
  EXPECT_EQ(overlapped.stages[0].exposed_reduce_ps, 1465 - 860);

  // Without overlap everything follows everything: 100 + 600 + 1005.
  times.overlap_param_gather = times.overlap_grad_reduce = false;
  EXPECT_EQ(composer.compose(times).step_ps, 1705);
}

// As above, but collectives run at half their rate beside slots. F0 starts at 40 with 60 left of the second gather; in
// 150 it gets 75 done, so F0 does 80 % meanwhile, in 120, and the last 20 % alone: 180. That gather ended at 160. F1
// 180-280, B1 280-480. The reduction of chunk 1 from 480: in the 400 of B0 it gets 200 of 1000 done, and the rest by
// 1680. Chunk 0's: 1685.
TEST(Compose, SlotsSlowTheCollectivesBesideThem) {
  PipelineTimes times = uniform_times(PipelineSchedule::kInterleaved, 1, 2, 1, 100, 200);
  times.forward_beside_data = {{150, 75}, {150, 75}};
  times.backward_beside_data = {{400, 200}, {400, 200}};
  times.gather = {40, 60};
  times.reduce = {5, 1000};
  Composer composer;
  const Composition& composition = composer.compose(times);
  EXPECT_EQ(composition.step_ps, 1685);
  EXPECT_EQ(composition.stages[0].slowed_ps, 40 + 200);
  EXPECT_EQ(composition.stages[0].last_slot_end_ps, 880);
  // A gather of 100 has 25 left after F0, at 190, and F1 waits until 215.
  times.gather = {40, 100};
  EXPECT_EQ(composer.compose(times).stages[0].exposed_gather_ps, 40 + 25);
}

// Two stages, two micro-batches, forward 100, backward 200, and a send of 60 that stops the slot beside it by half and
// runs on at 3/4. Stage 0: F0 0-100. Beside F1, which would take 200, 150 of a send would get done: 60 / 150 of F1 take
// 80, the rest 60, to 240. The first send leaves at 180, the second at 300. Stage 1: F0 160-260 (the send arrives as if
// alone), B0 260-460. Its send is done in 80, and 80 / 200 of F1 with it: F1 460-600; B1 600-800, arrives at 860.
// Stage 0: B0 520-720, B1 860-1060; nothing is sent there.
TEST(Compose, SendsSlowTheSlotsBesideThem) {
  PipelineTimes times = uniform_times(PipelineSchedule::k1F1B, 2, 1, 2, 100, 200);
  times.send = 60;
  times.forward_beside_send = {{200, 150}, {200, 150}};
  Composer composer;
  const Composition& composition = composer.compose(times);
  EXPECT_EQ(composition.step_ps, 1060);
  EXPECT_EQ(composition.stages[0].slowed_ps, 40);
  EXPECT_EQ(composition.stages[1].slowed_ps, 40);
}

// Uniform times and free sends: of 1F1B the bubble is (pp - 1) / m of the work,
// interleaved (pp - 1) / (m vpp) (arXiv 2104.04473, sections 2.2.1 and 2.2.2,
// for m a multiple of pp).
TEST(Compose, BubbleOfUniformStages) {
  Composer composer;
  for (std::int64_t pp : {1, 2, 4, 15}) {
    for (std::int64_t vpp : {1, 2, 3}) {
      for (std::int64_t rounds : {1, 2, 5}) {
        const std::int64_t m = rounds * pp, work = m * vpp * (10 + 20), bubble = (pp - 1) * (10 + 20);
        const auto schedule = vpp == 1 ? PipelineSchedule::k1F1B : PipelineSchedule::kInterleaved;
        const Composition& composition = composer.compose(uniform_times(schedule, pp, vpp, m, 10, 20));
        EXPECT_EQ(composition.step_ps, work + bubble) << "pp " << pp << ", vpp " << vpp << ", m " << m;
        for (const StageTimes& stage : composition.stages) EXPECT_EQ(stage.bubble_ps, bubble);
      }
    }
  }
}

// What the papers give as bubbles, with F, B, W forward, whole backward and its weights' part: ZB-H1 (pp - 1)(F + B -
// 2W) (arXiv 2401.10241, Table 1, whose B is the input's part alone), DualPipe (pp / 2 - 1)(F&B + B - 3W) (arXiv
// 2412.19437, Table 2; F&B: a merged slot). ZB-V has none left at equal times but the way of the first micro-batch to
// the last stage (section 6 of the former), (pp - 1) F, once there are 2 pp - 1 micro-batches.
TEST(Compose, BubblesOfThePapers) {
  Composer composer;
  for (std::int64_t pp : {2, 4, 8}) {
    const std::int64_t m = 4 * pp;
    const Composition& h1 = composer.compose(uniform_times(PipelineSchedule::kZbH1, pp, 1, m, 10, 20, 8));
    for (const StageTimes& stage : h1.stages) EXPECT_EQ(stage.bubble_ps, (pp - 1) * (10 + 20 - 2 * 8));
    const Composition& v = composer.compose(uniform_times(PipelineSchedule::kZbV, pp, 2, m, 10, 20, 10));
    for (const StageTimes& stage : v.stages) EXPECT_EQ(stage.bubble_ps, (pp - 1) * 10);
    const Composition& dual = composer.compose(uniform_times(PipelineSchedule::kDualPipe, pp, 1, m, 10, 20, 10, 30));
    for (const StageTimes& stage : dual.stages) EXPECT_EQ(stage.bubble_ps, (pp / 2 - 1) * (30 + 20 - 3 * 10));
  }
}

// A merged slot that takes what its two passes take: the bubble is interleaved's, and the longer warm-up adds no more
// than one forward a stage.
TEST(Compose, MergedSlotsThatSaveNothing) {
  Composer composer;
  for (std::int64_t pp : {2, 4, 8}) {
    PipelineTimes times = uniform_times(PipelineSchedule::kInterleaved, pp, 2, 4 * pp, 10, 20, 0, 30);
    const std::int64_t apart = composer.compose(times).step_ps;
    times.merge_passes = true;
    const std::int64_t merged = composer.compose(times).step_ps;
    EXPECT_GE(merged, apart);
    EXPECT_LE(merged, apart + pp * 30);
  }
}

// Slots and what is beside them are rounded, by two ticks each; a path to the end passes the slots of no more than two
// stages' worth.
TEST(Compose, AgreesWithTheDefinitionPlayedOut) {
  std::mt19937_64 random(1);
  Composer composer;
  for (int i = 0; i < 2000; ++i) {
    const PipelineTimes times = random_times(random);
    const std::int64_t rounded = 2 * 2 * (2 * times.micro_batches * times.vpp + 2 * times.pp * times.vpp);
    EXPECT_NEAR(static_cast<double>(composer.compose(times).step_ps),
                static_cast<double>(SlowComposition(times).step()), static_cast<double>(rounded))
        << "schedule " << static_cast<int>(times.schedule) << ", pp " << times.pp << ", vpp " << times.vpp << ", m "
        << times.micro_batches << ", merged " << times.merge_passes;
  }
}

TEST(Compose, PartsOfAStageAddUpToTheStep) {
  std::mt19937_64 random(2);
  Composer composer;
  for (int i = 0; i < 500; ++i) {
    const PipelineTimes times = random_times(random);
    const Composition& composition = composer.compose(times);
    for (std::size_t s = 0; s < composition.stages.size(); ++s) {
      const StageTimes& stage = composition.stages[s];
      EXPECT_EQ(composition.step_ps, stage.busy_ps + stage.exposed_gather_ps + stage.exposed_send_ps +
                                         stage.exposed_reduce_ps + stage.bubble_ps + times.norm + times.optimizer[s]);
      EXPECT_GE(stage.bubble_ps, 0);
      EXPECT_GE(stage.slowed_ps, 0);
    }
  }
}

TEST(Compose, LowerBoundHolds) {
  std::mt19937_64 random(3);
  Composer composer;
  for (int i = 0; i < 5000; ++i) {
    const PipelineTimes times = random_times(random);
    EXPECT_LE(lower_bound_ps(times), composer.compose(times).step_ps)
        << "schedule " << static_cast<int>(times.schedule) << ", pp " << times.pp << ", vpp " << times.vpp << ", m "
        << times.micro_batches << ", merged " << times.merge_passes;
  }
}

// Uniform stages leave nothing that the bound does not see: (m vpp + pp - 1)
// (forward + backward).
TEST(Compose, LowerBoundIsTightForUniformStages) {
  EXPECT_EQ(lower_bound_ps(uniform_times(PipelineSchedule::k1F1B, 4, 1, 8, 10, 20)), (8 + 3) * 30);
  EXPECT_EQ(lower_bound_ps(uniform_times(PipelineSchedule::kInterleaved, 4, 2, 8, 10, 20)), (16 + 3) * 30);
}

}  // namespace
}  // namespace msmoe::simulator
