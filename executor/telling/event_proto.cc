#include "executor/telling/event_proto.h"

#include <bit>
#include <string_view>

#include "executor/telling/tf_record.h"

namespace msmoe::executor {
namespace {

enum WireType : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// Seven bits a byte, lowest first; the top bit says that another follows.
void append_varint(std::string& bytes, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(static_cast<unsigned char>(value | 0x80)));
  bytes.push_back(static_cast<char>(value));
}

void append_key(std::string& bytes, std::uint32_t field, WireType type) { append_varint(bytes, field << 3 | type); }

void append_integer(std::string& bytes, std::uint32_t field, std::int64_t value) {
  append_key(bytes, field, kVarint);
  append_varint(bytes, static_cast<std::uint64_t>(value));
}

void append_double(std::string& bytes, std::uint32_t field, double value) {
  append_key(bytes, field, kFixed64);
  append_little_endian(bytes, std::bit_cast<std::uint64_t>(value), 8);
}

void append_float(std::string& bytes, std::uint32_t field, float value) {
  append_key(bytes, field, kFixed32);
  append_little_endian(bytes, std::bit_cast<std::uint32_t>(value), 4);
}

void append_bytes(std::string& bytes, std::uint32_t field, std::string_view value) {
  append_key(bytes, field, kBytes);
  append_varint(bytes, value.size());
  bytes += value;
}

std::string event_at(double wall_time) {
  std::string event;
  append_double(event, 1, wall_time);
  return event;
}

}  // namespace

std::string file_version_event(double wall_time) {
  std::string event = event_at(wall_time);
  append_bytes(event, 3, "brain.Event:2");
  return event;
}

std::string session_start_event(double wall_time, std::int64_t step) {
  std::string session_log;
  append_integer(session_log, 1, 1);
  std::string event = event_at(wall_time);
  append_integer(event, 2, step);
  append_bytes(event, 7, session_log);
  return event;
}

std::string scalars_event(double wall_time, std::int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    std::string value;
    append_bytes(value, 1, scalar.tag);
    append_float(value, 2, scalar.value);
    append_bytes(summary, 1, value);
  }
  std::string event = event_at(wall_time);
  append_integer(event, 2, step);
  append_bytes(event, 5, summary);
  return event;
}

}  // namespace msmoe::executor
