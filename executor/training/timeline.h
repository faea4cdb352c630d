// Timeline: when each operator of one step ran on each rank, as a trace that lies over the simulator's.
//
// A process is a rank, named after its stage, too; a thread is one of the streams. Operators have the program's names,
// and as arguments micro-batch, chunk and position in it as the simulator writes them, and the layer of the model. Time
// is zero where all ranks begin the step. A CPU runs one operator at a time, whichever stream it is of.
#pragma once

#include <string>
#include <vector>

#include "executor/communication/communicator.h"
#include "executor/operator_time.h"
#include "executor/training/trainer.h"

namespace msmoe::executor {

class Timeline {
 public:
  // Watches the trainer for as long as it lives, in place of whoever had it tell times before. Both outlive it.
  // world: all ranks of the job; each has a timeline.
  Timeline(Trainer& trainer, Communicator& world);
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  // What was seen before is forgotten. Collective over the world: ranks wait for each other.
  void begin_step();
  // Rank 0 writes the operators of all ranks since begin_step(); the file is there whole or not at all. Collective over
  // the world. A std::runtime_error, on rank 0, where the disk refuses.
  void write(const std::string& path) const;

  const std::vector<OperatorTime>& times() const { return times_; }  // since the step began

 private:
  Trainer& trainer_;
  Communicator& world_;
  double begin_seconds_ = 0;
  std::vector<OperatorTime> times_;
};

}  // namespace msmoe::executor
