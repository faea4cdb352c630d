// JsonlMetrics: every step as one JSON object on one line of a file (`msmoe-run --metrics out.jsonl`), for pandas, jq
// and whatever follows a file. Keys and units are those of named_values() in step_metrics.h:
//
//   {"step": 1, "loss": 10.98, "auxiliary_loss": 0.0123, ..., "has_nan": false, "has_inf": false}
//
// null stands for what the model or the machine has not, and for NaN and infinity, which JSON cannot say; has_nan and
// has_inf tell those apart. A key never changes its type otherwise.
#pragma once

#include <cstdint>
#include <string>

#include "executor/telling/appended_file.h"
#include "executor/telling/step_metrics.h"

namespace msmoe::executor {

class JsonlMetrics {
 public:
  // first_step: the first that this run will tell. Lines of an existing file from that step on are cut off, and so is
  // the half line that a killed run left; what is kept is kept byte for byte. A file with a line that no training wrote
  // is left alone: UserError. What the disk refuses is a std::runtime_error.
  JsonlMetrics(const std::string& path, std::int64_t first_step, MfuBasis basis);

  // A full disk is one std::runtime_error, and silence from then on (AppendedFile::append).
  void tell(const StepMetrics& metrics);
  bool failed() const { return file_.failed(); }

 private:
  MfuBasis basis_;
  AppendedFile file_;
};

// The line of a step, newline included.
std::string jsonl_line(const StepMetrics& metrics, const MfuBasis& basis);

// Takes away what JsonlMetrics' constructor says; the file is replaced at once or not at all. Does nothing where there
// is no such file, or where it is no regular file (a pipe, /dev/stdout).
void cut_metrics(const std::string& path, std::int64_t first_step);

}  // namespace msmoe::executor
