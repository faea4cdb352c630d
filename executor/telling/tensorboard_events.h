// TensorBoardEvents: the steps of a training as an event file that `tensorboard --logdir FOLDER` draws. Tags are
// "train/" and the names of named_values() in step_metrics.h; values are floats, NaN and infinity among them.
//
// Every run writes a file of its own, FOLDER/events.out.tfevents.TIME.HOST.PID, whose names sort by time. A resumed run
// begins with the event at which TensorBoard forgets the steps from there on, so nothing has to be cut.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "executor/telling/appended_file.h"
#include "executor/telling/step_metrics.h"

namespace msmoe::executor {

// The outside world, so that tests can bring their own.
struct EventOrigin {
  std::function<double()> clock;  // seconds since 1970
  std::string host;
  std::int64_t process_id = 0;
};
EventOrigin this_process();

class TensorBoardEvents {
 public:
  // Makes the folder where there is none. first_step: the first that this run will tell. A UserError where folder or
  // file cannot be made; a std::runtime_error where the disk is full.
  TensorBoardEvents(const std::string& folder, std::int64_t first_step, MfuBasis basis,
                    EventOrigin origin = this_process());

  // A full disk is one std::runtime_error, and silence from then on (AppendedFile::append).
  void tell(const StepMetrics& metrics);
  bool failed() const { return file_.failed(); }
  const std::string& path() const { return path_; }

 private:
  EventOrigin origin_;
  MfuBasis basis_;
  std::string path_;
  AppendedFile file_;
};

}  // namespace msmoe::executor
