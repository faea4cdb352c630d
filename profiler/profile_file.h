// clusters/NAME.profile.json: what a profile holds, as text; and the points of one that was written before.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "profiler/fits.h"
#include "profiler/point.h"

namespace msmoe::profiler {

struct Measurement {
  std::string name;                                   // of the cluster
  std::string date;                                   // YYYY-MM-DD
  std::map<std::string, std::string> conditions;      // Machine::conditions
  std::map<std::string, std::int64_t> before, after;  // Machine::health
  std::vector<Point> points;
};

std::string profile_text(const Measurement& measurement, const ProfileFits& fits);
// Of a file that profile_text wrote, with whatever fits. Throws UserError naming file and key.
Measurement read_measurement(const std::string& path);

}  // namespace msmoe::profiler
