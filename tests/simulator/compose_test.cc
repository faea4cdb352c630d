#include "simulator/compose.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>

#include "core/schedule.h"

namespace msmoe::simulator {
namespace {

// Every slot of every virtual stage alike; no sends, no data-parallel
// collectives, nothing after the last slot.
PipelineTimes uniform_times(PipelineSchedule schedule, std::int64_t pp, std::int64_t vpp, std::int64_t micro_batches,
                            std::int64_t forward, std::int64_t backward) {
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
  times.gather.assign(virtual_stages, 0);
  times.reduce.assign(virtual_stages, 0);
  times.optimizer.assign(static_cast<std::size_t>(pp), 0);
  return times;
}

PipelineTimes random_times(std::mt19937_64& random) {
  const auto number = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  const bool interleaved = number(0, 1) == 1;
  const std::int64_t pp = number(1, 7), vpp = interleaved ? number(1, 4) : 1;
  const std::int64_t micro_batches = interleaved ? number(pp, 4 * pp) : number(1, 25);
  PipelineTimes times = uniform_times(interleaved ? PipelineSchedule::kInterleaved : PipelineSchedule::k1F1B, pp, vpp,
                                      micro_batches, 0, 0);
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
  explicit SlowComposition(const PipelineTimes& times) : times_(times) {
    for (std::int64_t stage = 0; stage < times.pp; ++stage) {
      slots_.push_back(stage_slots(times.schedule, times.pp, times.vpp, stage, times.micro_batches));
      std::int64_t gathered = 0;
      for (std::int64_t chunk = 0; chunk < times.vpp; ++chunk) {
        gathered += times.gather[chunk * times.pp + stage];
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
        for (std::int64_t chunk = times_.vpp - 1; chunk >= 0; --chunk) reduce(stage, chunk, last_end_[stage]);
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

  bool run(std::int64_t stage, const Slot& slot) {
    const std::int64_t v = slot.chunk * times_.pp + stage, last = times_.pp * times_.vpp - 1;
    const std::int64_t send = times_.pp > 1 ? times_.send : 0;
    std::int64_t start = free_[stage];
    if (slot.backward && v == last) {
      if (!arrivals_.contains({false, v, slot.micro_batch})) return false;
    } else if (slot.backward || v > 0) {
      const auto producer = arrivals_.find({slot.backward, slot.backward ? v + 1 : v - 1, slot.micro_batch});
      if (producer == arrivals_.end()) return false;
      start = std::max(start, producer->second);
    }
    if (!slot.backward && slot.micro_batch == 0) start = std::max(start, collective_ends_[stage][slot.chunk]);
    const std::int64_t end =
        slot.backward
            ? work(stage, start, times_.backward[v], times_.backward_beside_data[v], times_.backward_beside_send[v])
            : work(stage, start, times_.forward[v], times_.forward_beside_data[v], times_.forward_beside_send[v]);
    last_end_[stage] = free_[stage] = end;
    if (v == (slot.backward ? 0 : last)) {
      arrivals_[{slot.backward, v, slot.micro_batch}] = end;
    } else {
      wire_free_[stage] = std::max(wire_free_[stage], end) + send;
      arrivals_[{slot.backward, v, slot.micro_batch}] = wire_free_[stage];
      if (!times_.overlap_p2p) free_[stage] += send;
    }
    if (slot.backward && slot.micro_batch == times_.micro_batches - 1 && times_.overlap_grad_reduce) {
      reduce(stage, slot.chunk, end);
    }
    return true;
  }

  void reduce(std::int64_t stage, std::int64_t chunk, std::int64_t from) {
    const std::int64_t start = std::max(from, collective_ends_[stage].back());
    collective_ends_[stage].push_back(start + times_.reduce[chunk * times_.pp + stage]);
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
  std::vector<std::vector<Slot>> slots_;
  std::map<std::int64_t, std::vector<std::int64_t>> collective_ends_;  // by stage, in order; gathers first
  std::map<std::int64_t, std::int64_t> free_, last_end_, wire_free_;   // by stage
  std::map<std::int64_t, std::size_t> next_;
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
        << "pp " << times.pp << ", vpp " << times.vpp << ", m " << times.micro_batches;
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
        << "pp " << times.pp << ", vpp " << times.vpp << ", m " << times.micro_batches;
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
