// Malformed input of every sort ends in one clear line.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/cluster.h"
#include "core/data_files.h"
#include "core/json_reader.h"
#include "core/model.h"
#include "core/plan.h"
#include "core/units_text.h"
#include "tests/core/mutations.h"

namespace msmoe {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = MSMOE_SOURCE_DIR;

TEST(BadInput, EveryFileOfTheCorpusIsRefusedInOneLineThatNamesIt) {
  int files = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(kSource / "tests" / "data" / "bad")) {
    ++files;
    const std::string path = entry.path().string();
    for (const auto& read : std::vector<std::function<void(const std::string&)>>{
             [](const std::string& file) { read_cluster(file); }, [](const std::string& file) { read_model(file); },
             [](const std::string& file) { read_plan(file); }}) {
      Survival survival;
      expect_survives_once(path, read, survival);
      EXPECT_EQ(survival.refused, 1) << path << " was accepted";
    }
    try {
      read_cluster(path);
    } catch (const UserError& error) {
      EXPECT_EQ(error.file(), path);
    }
  }
  EXPECT_GE(files, 30);
}

TEST(BadInput, MutatedCorpusFiles) {
  for (const fs::directory_entry& entry : fs::directory_iterator(kSource / "tests" / "data" / "bad"))
    if (entry.file_size() < 4096)
      expect_survives(read_text_file(entry.path().string()),
                      [](const std::string& text) { parse_cluster("bad.json", text); });
}

class ShippedCluster : public ::testing::TestWithParam<std::string> {};

// The unchanged text is among the mutants and accepted; most of the others are refused.
TEST_P(ShippedCluster, SurvivesMutation) {
  const std::string path = (kSource / "clusters" / (GetParam() + ".json")).string();
  const Survival survival =
      expect_survives(read_text_file(path), [&](const std::string& text) { parse_cluster(path, text); });
  EXPECT_GE(survival.accepted, 1);
  EXPECT_GE(survival.refused, 1000);
}

INSTANTIATE_TEST_SUITE_P(All, ShippedCluster, ::testing::ValuesIn(shipped_names("clusters")),
                         [](const ::testing::TestParamInfo<std::string>& name) {
                           std::string plain = name.param;
                           std::replace(plain.begin(), plain.end(), '-', '_');
                           return plain;
                         });

TEST(BadInput, MutatedTablesOfNcclTests) {
  const std::string table = read_text_file((kSource / "clusters" / "h100-all-reduce-8.txt").string());
  const Survival survival =
      expect_survives(table, [](const std::string& text) { parse_nccl_tests_table("table.txt", text); });
  EXPECT_GE(survival.accepted, 1);
  EXPECT_GE(survival.refused, 100);
}

TEST(BadInput, MutatedUnits) {
  const Place place{"a.json", "key"};
  expect_survives("450 GB/s", [&](const std::string& text) { parse_bandwidth(text, place); });
  expect_survives("79.1 GiB", [&](const std::string& text) { parse_bytes(text, place); });
  expect_survives("989 TFLOPS", [&](const std::string& text) { parse_flop_rate(text, place); });
  expect_survives("3.25 us", [&](const std::string& text) { parse_duration(text, place); });
  expect_survives("14.8T", [&](const std::string& text) { parse_count(text, place); });
  expect_survives("-1.25e3", [&](const std::string& text) { parse_number(text, place); });
}

}  // namespace
}  // namespace msmoe
