#include "profiler/profile_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/cluster.h"
#include "core/error.h"
#include "core/profile.h"
#include "core/text_file.h"
#include "profiler/command.h"
#include "profiler/grids.h"
#include "tests/core/mutations.h"

namespace msmoe::profiler {
namespace {

Measurement measurement() {
  Measurement result{.name = "h100",
                     .date = "2026-01-02",
                     .conditions = {{"gpu", "NVIDIA X"}, {"sms", "132"}},
                     .before = {{"gpu0_celsius", 40}},
                     .after = {},
                     .points = {}};
  std::int64_t time = 1'000'000;
  for (const Case& of : cases_of_kind("rows", 1, true)) {
    Point point{of, Duration{time += 12'345}, Duration{77}, 5};
    point.kernel = "kernel";
    result.points.push_back(point);
  }
  return result;
}

std::unique_ptr<Machine> no_gpu() { throw std::runtime_error("was opened"); }

class ProfileFile : public testing::Test {
 protected:
  ~ProfileFile() override { std::filesystem::remove_all(folder_); }
  std::string write(const char* name, const Measurement& of) const {
    std::filesystem::create_directories(folder_);
    const std::string path = (folder_ / name).string();
    write_text_file(path, profile_text(of, fit_profile(of.points, find_cluster("h100").gpu, "NVIDIA X")));
    return path;
  }
  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() /
      (std::string("msmoe-") + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(ProfileFile, HoldsWhatWasMeasured) {
  const Measurement written = measurement();
  const std::string path = write("a.profile.json", written);
  const Measurement read = read_measurement(path);
  EXPECT_EQ(read.name, written.name);
  EXPECT_EQ(read.date, written.date);
  EXPECT_EQ(read.conditions, written.conditions);
  EXPECT_EQ(read.before, written.before);
  ASSERT_EQ(read.points.size(), written.points.size());
  for (std::size_t i = 0; i < read.points.size(); ++i)
    EXPECT_EQ(to_json_line(read.points[i]), to_json_line(written.points[i]));
  // The simulator's reader accepts it, too.
  EXPECT_NE(find_profile(path).find("swi_glu"), nullptr);
}

// Points of several files are fitted together; those of the last one count.
TEST_F(ProfileFile, IsRefittedWithoutAGpu) {
  Measurement first = measurement(), second = measurement();
  for (Point& point : second.points) point.time *= 2;
  second.points.resize(second.points.size() / 2);
  Command command{.cluster = "h100", .output = (folder_ / "joined.profile.json").string(), .only = {}};
  command.refit = {write("a.profile.json", first), write("b.profile.json", second)};
  EXPECT_EQ(run(command, no_gpu), 0);
  const Measurement joined = read_measurement(command.output);
  ASSERT_EQ(joined.points.size(), first.points.size());
  std::map<std::string, Duration> expected;
  for (const Point& point : first.points) expected[point.of.key()] = point.time;
  for (const Point& point : second.points) expected[point.of.key()] = point.time;
  for (const Point& point : joined.points) EXPECT_EQ(point.time, expected.at(point.of.key())) << point.of.key();
}

TEST_F(ProfileFile, OfOtherGpusAreNotJoined) {
  Measurement other = measurement();
  other.conditions["gpu"] = "NVIDIA Y";
  Command command{.cluster = "h100", .output = (folder_ / "joined.profile.json").string(), .only = {}};
  command.refit = {write("a.profile.json", measurement()), write("b.profile.json", other)};
  EXPECT_THROW(run(command, no_gpu), UserError);
  other.conditions = {{"gpu", "NVIDIA X"}, {"sms", "114"}};
  command.refit = {write("b.profile.json", other)};
  EXPECT_THROW(run(command, no_gpu), UserError);  // h100 says 132
  EXPECT_FALSE(std::filesystem::exists(command.output));
}

TEST_F(ProfileFile, SurvivesMutation) {
  Measurement small = measurement();
  small.points.resize(3);
  const std::string path = write("a.profile.json", small);
  const Survival survival = expect_survives(read_text_file(path), [&](const std::string& text) {
    std::ofstream(path) << text;
    read_measurement(path);
  });
  EXPECT_GE(survival.accepted, 1);
  EXPECT_GE(survival.refused, 100);
}

}  // namespace
}  // namespace msmoe::profiler
