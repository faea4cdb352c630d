#include "core/profile.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/cluster.h"
#include "core/error.h"
#include "core/json_reader.h"
#include "tests/core/mutations.h"

namespace msmoe {
namespace {

Json small() {
  return Json::parse(R"({
    "version": 1, "msmoe": "0.1.0", "name": "mine", "date": "2026-01-02", "conditions": {"gpu": "NVIDIA X"},
    "fits": [{"of": "permute", "form": "memory", "terms": {"start": 2, "hbm": 1.25}, "points": 20,
              "held_out": {"points": 10, "median": 0.02, "p95": 0.1}}],
    "collectives": [{"collective": "all_gather", "ranks": 2, "points": [[1024, 2e-6], [4096, 3e-6]]}],
    "points": []})");
}

std::string complaint(const Json& json) {
  try {
    parse_profile("mine.profile.json", json.dump());
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Profile, Reads) {
  const Profile profile = parse_profile("mine.profile.json", small().dump());
  EXPECT_EQ(profile.name, "mine");
  EXPECT_EQ(profile.gpu, "NVIDIA X");
  const Fit* fit = profile.find("permute");
  ASSERT_NE(fit, nullptr);
  EXPECT_EQ(fit->coefficients[1], 1.25);
  EXPECT_EQ(fit->gpu, "NVIDIA X");
  EXPECT_EQ(fit->held_out.points, 10);
  EXPECT_EQ(profile.find("gemm_forward"), nullptr);
  ASSERT_EQ(profile.collectives.size(), 1u);
  EXPECT_DOUBLE_EQ(interpolated_seconds(profile.collectives[0].points, {2560}), 2.5e-6);
}

TEST(Profile, RefusesWhatItCannotUse) {
  Json json = small();
  json["fits"][0]["terms"]["hbm"] = -1;
  EXPECT_EQ(complaint(json), "mine.profile.json: fits[0].terms.hbm: -1 is out of range; 0 to 1000000 is allowed");
  json["fits"][0]["terms"] = {{"start", 0}, {"hbm", 0}};
  EXPECT_EQ(complaint(json), "mine.profile.json: fits[0].terms: all are 0; one at least has to be above");
  json = small();
  json["fits"][0]["form"] = "magic";
  EXPECT_EQ(complaint(json),
            "mine.profile.json: fits[0].form: \"magic\" is unknown; known are gemm, grouped_gemm, grouped_gemm_short, "
            "attention, memory");
  json = small();
  json["fits"].push_back(json["fits"][0]);
  EXPECT_EQ(complaint(json), "mine.profile.json: fits: \"permute\" is there twice; once is allowed");
  json = small();
  json["fits"][0]["of"] = "gemm_forward";
  EXPECT_EQ(complaint(json), "mine.profile.json: fits[0].form: does not suit gemm_forward; another one is expected");
  json = small();
  json["collectives"][0]["points"] = {{4096, 3e-6}, {1024, 2e-6}};
  EXPECT_NE(complaint(json).find("ascending"), std::string::npos);
  json = small();
  json["version"] = 2;
  EXPECT_NE(complaint(json).find("version"), std::string::npos);
}

TEST(Profile, SurvivesMutation) {
  const Survival survival =
      expect_survives(small().dump(), [](const std::string& text) { parse_profile("mine.profile.json", text); });
  EXPECT_GE(survival.accepted, 1);
  EXPECT_GE(survival.refused, 1000);
}

// Every cluster has all fits, its own where its GPU was measured.
TEST(Profile, EveryClusterHasItsFits) {
  for (const char* name : {"h100", "h100-4nic", "h200", "h800", "h20", "gh200"}) {
    const Cluster cluster = find_cluster(name);
    for (const Fit* fit : cluster.fits) ASSERT_NE(fit, nullptr) << name;
    EXPECT_EQ(cluster.fits[0]->gpu, std::string(name) == "h200" ? "NVIDIA H200" : "NVIDIA H100 80GB HBM3") << name;
  }
}

TEST(Profile, UnknownNamesAreRefused) { EXPECT_THROW(find_profile("h1000"), UserError); }

}  // namespace
}  // namespace msmoe
