// A timeline as a Chrome Trace Event file, which https://ui.perfetto.dev opens:
//
//   {"traceEvents":[
//   {"name":"attention","cat":"compute","ph":"X","ts":12.5,"dur":3.000001,"pid":0,"tid":1,"args":{"layer":3}},
//   ...
//   ],"displayTimeUnit":"ms","otherData":{"tool":"msmoe-sim"}}
//
// Events are written as they come, in any order, so that memory does not grow with their number; the file appears
// under its name only when finish() has returned. By habit a process is a pipeline stage or a rank, and a thread one
// of its streams. Times are microseconds with six digits behind the point: every picosecond is kept.
//
// Not thread safe. Each function throws std::runtime_error, one line, where the disk refuses.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/units.h"
#include "reports/output_file.h"

namespace msmoe::reports {

using TraceValue = std::variant<double, std::int64_t, std::string>;  // a double is finite
using TraceArgs = std::vector<std::pair<std::string, TraceValue>>;

// A moment inside a complete event, to which an arrow is tied.
struct TracePoint {
  int pid = 0;
  int tid = 0;
  Duration time{};
};

class TraceWriter {
 public:
  // other_data: what made the trace (tool, version, plan); viewers show it beside the timeline.
  explicit TraceWriter(std::string path, TraceArgs other_data = {});

  // sort: viewers list processes, and the threads of one, in this order.
  void process_name(int pid, std::string_view name, int sort);
  void thread_name(int pid, int tid, std::string_view name, int sort);

  // An operator: from start, for length. Those of one thread may nest but not overlap.
  void complete(int pid, int tid, std::string_view name, std::string_view category, Duration start, Duration length,
                const TraceArgs& args = {});
  // The values from this moment on: "memory" with {"parameters", 21.4}, {"activations", 33.0}.
  void counter(int pid, std::string_view name, Duration time,
               const std::vector<std::pair<std::string, double>>& values);
  // An arrow. id: another for each arrow.
  void flow(std::int64_t id, const TracePoint& from, const TracePoint& to, std::string_view name);

  void finish();

 private:
  void begin_event(std::string_view name, std::string_view category, char phase, Duration time, int pid, int tid);
  void end_event();
  void metadata(std::string_view what, int pid, int tid, std::string_view key, const TraceValue& value);

  OutputFile file_;
  std::string buffer_;
  TraceArgs other_data_;
  bool first_ = true;
};

}  // namespace msmoe::reports
