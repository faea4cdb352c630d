// Point: one measurement of one operator or link at one shape, and the file that a profile gathers them in.
//
// The file is one JSON object a line, appended as soon as a point is measured: a profile that is interrupted goes on
// where it stopped. A line that was cut off half-way is measured again.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/units.h"

namespace msmoe::profiler {

struct Case {
  std::string what;                           // "gemm", "attention", "all_to_all", ...
  std::map<std::string, std::int64_t> shape;  // {"m", 4096}, ...

  // "gemm k=4096 m=8192 n=1024": the same case in every run and on every machine.
  std::string key() const;
  // Every third case, by a hash of its key, is kept out of the fit and tests it.
  bool is_held_out() const;
};

struct Point {
  Case of;
  Duration time;    // the median over repeats
  Duration spread;  // between the quartiles
  int repeats = 0;
  Duration alone{};    // of a side of a pair: without the other side; else 0
  std::string kernel;  // the longest one that ran, as the compiler mangles it; empty where none did
};

// The median, and the distance between the quartiles. REQUIRES: not empty.
Point summarize(const Case& of, std::vector<std::int64_t> picoseconds);

std::string to_json_line(const Point& point);
// Nothing where the line is no whole point.
std::optional<Point> parse_point(std::string_view line);

class PointFile {
 public:
  // Reads what is there, creates what is not. conditions: what the points depend on beside the case (device, driver,
  // clocks): a file of other conditions is a UserError that says which differ and how to start anew. Faults of the disk
  // are std::runtime_error.
  PointFile(std::string path, const std::map<std::string, std::string>& conditions);
  ~PointFile();
  PointFile(const PointFile&) = delete;
  PointFile& operator=(const PointFile&) = delete;

  const Point* find(const Case& of) const;  // nullptr: not measured yet
  void add(const Point& point);             // on disk when it returns
  std::vector<Point> points() const;        // by name, then by sizes

 private:
  void read(std::string_view text, const std::string& header);
  void append(const std::string& line);

  std::string path_;
  int descriptor_ = -1;
  std::map<std::string, Point> points_;
};

}  // namespace msmoe::profiler
