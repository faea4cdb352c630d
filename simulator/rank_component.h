// RankComponent: one step of the ranks that meet before the gradients are reduced.
//
// Every rank runs its slots in schedule order, and in a slot its modules' operators in issue order on their streams:
//
//     ready = max(end of the operator before on its stream, ends of those it waits for, its launch by the host)
//     start = ready; where its group meets, the latest ready of the group
//     end   = start + length x the rank's factor x noise; where all end together, the latest end of the group
//
// A module starts when all streams have ended the one before. Between slots it is as on the fast path (compose.h):
// messages go from rank to rank, and what runs beside slots slows them by as much as there.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "simulator/random_draws.h"
#include "simulator/rank_job.h"

namespace msmoe::simulator {

// Picoseconds of one rank, from the start of the step to the end of its last slot.
struct RankTimes {
  double busy = 0;   // operators that compute, slowed by what runs beside them
  double wires = 0;  // transfers, gathers and sends that nothing hides
  std::array<double, kNumRankWaits> waits{};
  double end = 0;  // of its last slot, and of a send that holds its compute stream

  double waiting() const;
};

struct ComponentStep {
  std::vector<RankTimes> ranks;            // [stage * width + rank]
  std::vector<double> reduce_ready;        // by virtual stage: when its gradients are complete on all ranks
  std::vector<double> data_end, last_end;  // by stage: of its data stream, and of its last slot
  // By stage: the parts of a step that its ranks spent, summed over them.
  std::vector<std::array<double, kNumTimeParts>> parts;
};

class RankComponent {
 public:
  explicit RankComponent(const RankJob& job);

  // factors: [stage * width + rank], 1 where a GPU is as fast as it should be. noise: none where nullptr; key: of the
  // component's draws.
  void run(const std::vector<double>& factors, const LognormalFactors* noise, std::uint64_t key, ComponentStep& step);

 private:
  using Row = std::vector<double>;  // by rank of one stage

  void run_slot(const RankSlot& slot);
  void run_pass(const PassLengths& pass, std::uint64_t key);
  void set_lengths(const PassLengths& pass, std::size_t op, std::uint64_t key);
  void follow(const PassLengths& pass, std::size_t op_idx);
  void start_operator(const PassLengths& pass, std::size_t op_idx);
  void end_operator(const RankOperator& op, std::size_t op_idx);
  void account(const PassLengths& pass, std::size_t op_idx);
  void join(const std::vector<RankOperator>& operators);
  void take_latest(const RankGroups& groups, double* row);
  void wait_for_operator(std::size_t rank, double gap, int waited, const std::vector<RankOperator>& operators);
  void slow_down(const RankSlot& slot, double started);
  void gather(const RankSlot& slot);
  void receive(const RankSlot& slot);
  void send(const RankSlot& slot);

  const RankJob& job_;
  const std::size_t width_;
  const double send_, hold_;

  // During run().
  const LognormalFactors* noise_ = nullptr;
  std::uint64_t key_ = 0;
  ComponentStep* step_ = nullptr;
  const double* factors_ = nullptr;  // of the slot's stage
  RankTimes* ranks_ = nullptr;       // likewise
  std::array<double, kNumTimeParts>* parts_ = nullptr;

  std::vector<Row> clock_, sent_;  // by stage: when compute is free, when the last message arrives
  std::vector<double> gather_end_;
  std::unordered_map<std::int64_t, Row> messages_;  // under way, by pass, virtual stage and micro-batch
  std::vector<Row> spare_;                          // rows of messages that arrived
  Row slot_start_, busy_;                           // of the slot under way

  // During run_pass().
  Row now_;                      // in: the start of the module, out: its end
  Row factor_, start_, length_;  // of the operator under way; factor_: straggling times noise
  std::vector<double> end_;      // [operator * width + rank]
  std::vector<double> late_;     // likewise: how much of it was waiting for others
  std::array<const double*, kNumStreams> stream_end_{};
  std::array<int, kNumStreams> stream_tail_{};
  std::vector<double> latest_;  // by group
};

}  // namespace msmoe::simulator
