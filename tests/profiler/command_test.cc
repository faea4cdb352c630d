#include "profiler/command.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "profiler/grids.h"

namespace msmoe::profiler {
namespace {

// A machine whose messages take 1 us and 1 ns a byte, and that stops working where told to.
class Twin : public Machine {
 public:
  Twin(std::multiset<std::string>& measured, int works_for, std::string gpu)
      : measured_(measured), left_(works_for), gpu_(std::move(gpu)) {}
  std::map<std::string, std::string> conditions() const override { return {{"gpu", gpu_}}; }
  std::map<std::string, std::int64_t> health() const override { return {{"gpu0_celsius", 40}}; }
  int num_gpus() const override { return 2; }
  std::vector<Point> measure(const Case& of) override {
    if (left_-- == 0) throw std::runtime_error("the GPU fell off the bus");
    measured_.insert(of.key());
    const Point point{of, Duration{1'000'000 + 1'000 * of.shape.at("bytes")}, Duration{10}, 3};
    if (!is_pair(of)) return {point};
    Point partner = point;
    partner.of = partner_of(of);
    return {partner, point};
  }

 private:
  std::multiset<std::string>& measured_;
  int left_;
  std::string gpu_;
};

class ProfileCommand : public testing::Test {
 protected:
  ProfileCommand() {
    std::string name = (std::filesystem::temp_directory_path() / "msmoe-profile-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    command_.cluster = "h200";
    command_.only = {"links"};
    command_.quick = true;
    command_.output = (folder_ / "twin.profile.json").string();
  }
  ~ProfileCommand() override { std::filesystem::remove_all(folder_); }

  static constexpr int kForever = 1'000'000;
  std::size_t num_cases() const { return cases_of_kind(command_.only.front(), 2, command_.quick).size(); }
  int run_for(int cases, const std::string& gpu = "twin") {
    return run(command_, [&] { return std::make_unique<Twin>(measured_, cases, gpu); });
  }
  nlohmann::json profile() const { return nlohmann::json::parse(std::ifstream(command_.output)); }
  bool has_points() const { return std::filesystem::exists(command_.output + ".points"); }

  std::filesystem::path folder_;
  Command command_;
  std::multiset<std::string> measured_;
};

TEST_F(ProfileCommand, WritesEveryPoint) {
  EXPECT_EQ(run_for(kForever), kExitDone);
  const auto json = profile();
  EXPECT_EQ(json["name"], "h200");
  EXPECT_EQ(json["conditions"]["gpu"], "twin");
  EXPECT_EQ(json["health_after"]["gpu0_celsius"], 40);
  ASSERT_EQ(json["points"].size(), num_cases());
  for (const auto& point : json["points"])
    EXPECT_NEAR(point["seconds"], 1e-6 + 1e-9 * point["shape"]["bytes"].get<double>(), 1e-12);
  EXPECT_FALSE(has_points());
}

TEST_F(ProfileCommand, QuickMeasuresLess) {
  command_.quick = false;
  EXPECT_EQ(run_for(kForever), kExitDone);
  const std::size_t all = profile()["points"].size();
  command_.quick = true;
  EXPECT_EQ(run_for(kForever), kExitDone);
  EXPECT_LT(profile()["points"].size(), all);
}

TEST_F(ProfileCommand, BothSidesOfAPairAreKept) {
  command_.only = {"pairs"};
  EXPECT_EQ(run_for(kForever), kExitDone);
  EXPECT_EQ(profile()["points"].size(), 2 * num_cases());
}

// Whenever the machine fails: what was measured is not measured again, and there is no half-written profile.
TEST_F(ProfileCommand, GoesOnWhereItStopped) {
  const int cases = static_cast<int>(num_cases());
  for (int works_for = 0; works_for < cases; works_for += 7) {
    measured_.clear();
    EXPECT_THROW(run_for(works_for), std::runtime_error);
    EXPECT_FALSE(std::filesystem::exists(command_.output));
    EXPECT_TRUE(has_points());
    EXPECT_EQ(run_for(cases - works_for), kExitDone);
    EXPECT_EQ(measured_.size(), num_cases());
    for (const std::string& key : measured_) EXPECT_EQ(measured_.count(key), 1u) << key;
    std::filesystem::remove(command_.output);
  }
}

TEST_F(ProfileCommand, PointsOfAnotherMachineAreRefused) {
  EXPECT_THROW(run_for(2), std::runtime_error);
  EXPECT_THROW(run_for(kForever, "another"), UserError);
  EXPECT_EQ(run_for(kForever), kExitDone);
}

TEST_F(ProfileCommand, UnknownKindsAreRefusedBeforeTheMachineIsOpened) {
  command_.only = {"links", "wings"};
  try {
    run(command_, []() -> std::unique_ptr<Machine> { throw std::runtime_error("was opened"); });
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("wings"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace msmoe::profiler
