#include "reports/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

namespace msmoe::reports {
namespace {

constexpr std::size_t kFlushBytes = std::size_t{1} << 20;
constexpr std::int64_t kPicosecondsPerMicrosecond = 1'000'000;

template <class... Args>
void append(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

// Almost every name is plain ASCII; the rest takes the slow and thorough way.
void append_text(std::string& out, std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char character) {
    return character >= 0x20 && character < 0x7F && character != '"' && character != '\\';
  });
  if (plain) {
    out += '"';
    out += text;
    out += '"';
  } else {
    out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
}

// In integers: a double of microseconds would lose picoseconds after a few hours.
void append_microseconds(std::string& out, Duration duration) {
  const std::int64_t ticks = duration.count();
  assert(ticks >= 0);
  append(out, "{}", ticks / kPicosecondsPerMicrosecond);
  if (const std::int64_t rest = ticks % kPicosecondsPerMicrosecond; rest != 0) {
    append(out, ".{:06}", rest);
    out.erase(out.find_last_not_of('0') + 1);
  }
}

void append_value(std::string& out, const TraceValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    append_text(out, *text);
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    append(out, "{}", *integer);
  } else {
    assert(std::isfinite(std::get<double>(value)));
    append(out, "{}", std::get<double>(value));
  }
}

template <class Pairs>
void append_object(std::string& out, const Pairs& pairs) {
  out += '{';
  bool first = true;
  for (const auto& [key, value] : pairs) {
    if (!first) out += ',';
    first = false;
    append_text(out, key);
    out += ':';
    append_value(out, value);
  }
  out += '}';
}

}  // namespace

TraceWriter::TraceWriter(std::string path, TraceArgs other_data)
    : file_(std::move(path)), buffer_("{\"traceEvents\":["), other_data_(std::move(other_data)) {}

void TraceWriter::process_name(int pid, std::string_view name, int sort) {
  metadata("process_name", pid, 0, "name", std::string(name));
  metadata("process_sort_index", pid, 0, "sort_index", std::int64_t{sort});
}

void TraceWriter::thread_name(int pid, int tid, std::string_view name, int sort) {
  metadata("thread_name", pid, tid, "name", std::string(name));
  metadata("thread_sort_index", pid, tid, "sort_index", std::int64_t{sort});
}

void TraceWriter::complete(int pid, int tid, std::string_view name, std::string_view category, Duration start,
                           Duration length, const TraceArgs& args) {
  begin_event(name, category, 'X', start, pid, tid);
  buffer_ += ",\"dur\":";
  append_microseconds(buffer_, length);
  buffer_ += ",\"args\":";
  append_object(buffer_, args);
  end_event();
}

void TraceWriter::counter(int pid, std::string_view name, Duration time,
                          const std::vector<std::pair<std::string, double>>& values) {
  begin_event(name, "counter", 'C', time, pid, 0);
  buffer_ += ",\"args\":";
  append_object(buffer_, values);
  end_event();
}

void TraceWriter::flow(std::int64_t id, const TracePoint& from, const TracePoint& to, std::string_view name) {
  begin_event(name, "flow", 's', from.time, from.pid, from.tid);
  append(buffer_, ",\"id\":{},\"args\":{{}}", id);
  end_event();
  // bp "e" ties the head to the event around that moment; without it, to the next one that begins.
  begin_event(name, "flow", 'f', to.time, to.pid, to.tid);
  append(buffer_, ",\"id\":{},\"bp\":\"e\",\"args\":{{}}", id);
  end_event();
}

void TraceWriter::finish() {
  buffer_ += "\n],\"displayTimeUnit\":\"ms\",\"otherData\":";
  append_object(buffer_, other_data_);
  buffer_ += "}\n";
  file_.write(buffer_);
  buffer_.clear();
  file_.commit();
}

void TraceWriter::begin_event(std::string_view name, std::string_view category, char phase, Duration time, int pid,
                              int tid) {
  buffer_ += first_ ? "\n{\"name\":" : ",\n{\"name\":";
  first_ = false;
  append_text(buffer_, name);
  buffer_ += ",\"cat\":";
  append_text(buffer_, category);
  append(buffer_, ",\"ph\":\"{}\",\"ts\":", phase);
  append_microseconds(buffer_, time);
  append(buffer_, ",\"pid\":{},\"tid\":{}", pid, tid);
}

void TraceWriter::end_event() {
  buffer_ += '}';
  if (buffer_.size() < kFlushBytes) return;
  file_.write(buffer_);
  buffer_.clear();
}

void TraceWriter::metadata(std::string_view what, int pid, int tid, std::string_view key, const TraceValue& value) {
  begin_event(what, "__metadata", 'M', Duration{0}, pid, tid);
  buffer_ += ",\"args\":";
  append_object(buffer_, TraceArgs{{std::string(key), value}});
  end_event();
}

}  // namespace msmoe::reports
