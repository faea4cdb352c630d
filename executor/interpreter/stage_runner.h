// StageRunner: one training step of one pipeline stage, slot by slot, as its program says: the executor's half of "one
// program, two interpreters".
//
// Operators are issued in the program's order, so that the collectives of a group have the same order on all its ranks.
// Fused operators run as the parts that they stand for; a slot that merges two passes runs one after the other.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/program.h"
#include "core/schedule.h"
#include "executor/interpreter/activations.h"
#include "executor/interpreter/call.h"
#include "executor/interpreter/mailbox.h"
#include "executor/operator_time.h"

namespace msmoe::executor {

// What a rank is at, for whoever asks from another thread.
struct Position {
  std::atomic<const char*> name{nullptr};  // of the operator; null: none yet
  std::atomic<int> layer{-1};              // -1: embedding, head, or none
  std::atomic<int> micro_batch{-1};
  std::string text() const;  // "operator dispatch of layer 3, micro-batch 1"
};

// Told of each operator when it is done, while its tensors are still there.
struct OperatorRun {
  const Call& call;
  ModuleId module;
  int micro_batch = 0;
};
using OperatorObserver = std::function<void(const OperatorRun&)>;

class StageRunner {
 public:
  // All of these outlive it. The store has the modules of stage_modules(), chunk after chunk.
  StageRunner(RankContext& rank, const Program& program, int stage, Position& position);

  // Every slot of the stage. batches: by micro-batch. Gradients are added to those of the store; sums of losses to the
  // rank's. Collective over all ranks.
  void run(const std::vector<MicroBatch>& batches);

  // Forward passes alone: the loss is added to the rank's sums.
  void evaluate(const std::vector<MicroBatch>& batches);

  // Parts of fused operators are told one by one to the former, and as one operator to the latter.
  void observe(OperatorObserver observer) { observer_ = std::move(observer); }
  void observe_times(TimeObserver observer) { time_observer_ = std::move(observer); }
  // Room for all tensors, and the most that lived there at once so far.
  std::int64_t arena_bytes() const { return activations_.arena_bytes(); }
  ArenaPeak arena_peak() const { return activations_.meter().peak(); }
  // For tests: NaNs in the workspace before each pass, and in what an operator is the first to write.
  void scribble(bool on) { scribbles_ = on; }

 private:
  struct Pass {
    int chunk = 0, micro_batch = 0;
    PassPart part = PassPart::kForward;
  };
  void forward(const Slot& slot);
  void evaluate_loss(int chunk, int micro_batch);
  void backward(int chunk, int micro_batch, PassPart part);
  Call call_of(const Pass& pass, std::size_t position, const std::vector<std::byte*>& places);
  void run_module(const Pass& pass, std::size_t position, const std::vector<Operator>& operators,
                  std::vector<std::byte*> places);
  void scribble(const Operator& op, const Call& call, std::vector<bool>& written);
  void send(const Pass& pass, int to, const std::byte* data);
  void tell_time(const Operator& op, const Pass& pass, int position, double begin) const;
  void run_operator(const Operator& op, const Call& around, std::vector<std::byte*>& places,
                    std::vector<BufferPool::Buffer>& stashes);
  std::size_t module_idx(int chunk, std::size_t position) const {
    return first_module_[static_cast<std::size_t>(chunk)] + position;
  }
  const Chunk& chunk(int idx) const { return stage_.chunks[static_cast<std::size_t>(idx)]; }
  const Module& module(int chunk_idx, std::size_t position) const {
    return program_.modules[static_cast<std::size_t>(chunk(chunk_idx).modules[position])];
  }

  RankContext& rank_;
  const Program& program_;
  const Stage& stage_;
  int stage_idx_;
  PipelineShape shape_;
  Position& position_;
  Activations activations_;
  Operator pipeline_send_;
  Mailbox mailbox_;
  std::vector<std::size_t> first_module_;               // by chunk
  std::vector<std::vector<Operator>> input_, weights_;  // by module of the program: backward in parts
  std::map<Pair, std::vector<Routing>> routing_;        // by module of the chunk
  const std::vector<MicroBatch>* batches_ = nullptr;
  OperatorObserver observer_;
  TimeObserver time_observer_;
  bool scribbles_ = false;
};

}  // namespace msmoe::executor
