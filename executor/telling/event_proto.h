// The three TensorBoard events that we write, as protobuf bytes (tensorboard/compat/proto/event.proto, summary.proto):
//
//   Event       1 wall_time double | 2 step int64 | one of: 3 file_version string, 5 summary, 7 session_log
//   Summary     1 value, repeated: 1 tag string | 2 simple_value float
//   SessionLog  1 status: 1 is START
//
// Wall times are in seconds since 1970. Protobuf's wire format: docs "Encoding" of protobuf.dev.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace msmoe::executor {

struct Scalar {
  std::string tag;  // "group/name"; TensorBoard draws a group's charts together
  float value = 0;
};

// The first event of every file: "brain.Event:2".
std::string file_version_event(double wall_time);
// A run that starts at this step: TensorBoard forgets what an earlier file of the folder says of it and later ones.
std::string session_start_event(double wall_time, std::int64_t step);
std::string scalars_event(double wall_time, std::int64_t step, std::span<const Scalar> scalars);

}  // namespace msmoe::executor
