#include "profiler/point.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/error.h"

namespace msmoe::profiler {
namespace {

const std::map<std::string, std::string> kConditions = {{"device", "H100"}, {"driver", "580"}};

class PointFiles : public testing::Test {
 protected:
  PointFiles() {
    std::string name = (std::filesystem::temp_directory_path() / "msmoe-points-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    path_ = (folder_ / "points.jsonl").string();
  }
  ~PointFiles() override { std::filesystem::remove_all(folder_); }

  std::string text() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }
  void write(const std::string& text) const { std::ofstream(path_) << text; }

  std::filesystem::path folder_;
  std::string path_;
};

Point gemm(std::int64_t m) {
  return {{"gemm", {{"m", m}, {"n", 1024}, {"k", 4096}}}, Duration{1000 * m}, Duration{7}, 20};
}

TEST(Summarize, OneSlowRunDoesNotMoveTheMedian) {
  const Point point = summarize({"send", {}}, {90, 10, 30, 20, 1'000'000});
  EXPECT_EQ(point.time, Duration{30});
  EXPECT_EQ(point.spread, Duration{70});
  EXPECT_EQ(point.repeats, 5);
  EXPECT_EQ(summarize({"send", {}}, {7}).time, Duration{7});
}

TEST(Points, KeysNameTheCaseWhateverTheOrderOfItsSizes) { EXPECT_EQ(gemm(8).of.key(), "gemm k=4096 m=8 n=1024"); }

TEST(Points, AboutAThirdIsHeldOut) {
  int held_out = 0;
  for (std::int64_t m = 1; m <= 3000; ++m) held_out += gemm(m).of.is_held_out();
  EXPECT_GT(held_out, 900);
  EXPECT_LT(held_out, 1100);
}

TEST(Points, LinesComeBackAsTheyWere) {
  const auto back = parse_point(to_json_line(gemm(8)));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->of.key(), gemm(8).of.key());
  EXPECT_EQ(back->time, gemm(8).time);
  EXPECT_EQ(back->spread, gemm(8).spread);
  EXPECT_EQ(back->repeats, 20);
}

TEST(Points, NoPartOfALineIsAPoint) {
  const std::string line = to_json_line(gemm(8));
  for (std::size_t length = 0; length < line.size(); ++length) EXPECT_FALSE(parse_point(line.substr(0, length)));
  // Any byte changed: a point or none, never a crash.
  for (std::size_t at = 0; at < line.size(); ++at)
    for (const char byte : {'\0', '"', '9', '-', '{', '\xff'}) {
      std::string changed = line;
      changed[at] = byte;
      const auto point = parse_point(changed);
      EXPECT_TRUE(!point || point->time.count() > 0) << changed;
    }
}

TEST_F(PointFiles, GoOnWhereTheyStopped) {
  {
    PointFile file(path_, kConditions);
    file.add(gemm(1));
    file.add(gemm(2));
  }
  PointFile file(path_, kConditions);
  EXPECT_EQ(file.points().size(), 2u);
  ASSERT_NE(file.find(gemm(2).of), nullptr);
  EXPECT_EQ(file.find(gemm(2).of)->time, gemm(2).time);
  EXPECT_EQ(file.find(gemm(3).of), nullptr);
}

// Cut off at every byte, as a full disk or a killed process leaves it: all whole lines are kept, and the file goes on.
TEST_F(PointFiles, LoseNothingButTheLineThatWasCutOff) {
  {
    PointFile file(path_, kConditions);
    for (int m = 1; m <= 3; ++m) file.add(gemm(m));
  }
  const std::string whole = text();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::string part = whole.substr(0, length);
    const auto lines = std::count(part.begin(), part.end(), '\n');
    write(part);
    PointFile(path_, kConditions).add(gemm(9));
    const PointFile file(path_, kConditions);
    EXPECT_EQ(file.points().size(), static_cast<std::size_t>(std::max<std::ptrdiff_t>(lines, 1))) << part;
    EXPECT_NE(file.find(gemm(9).of), nullptr);
  }
}

std::string refusal(const std::string& path, const std::map<std::string, std::string>& conditions) {
  try {
    PointFile file(path, conditions);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST_F(PointFiles, AreNotMixed) {
  PointFile(path_, kConditions).add(gemm(1));
  const std::string before = text();
  const std::string message = refusal(path_, {{"device", "H200"}, {"driver", "580"}});
  EXPECT_NE(message.find("other conditions"), std::string::npos) << message;
  EXPECT_NE(message.find("H200"), std::string::npos) << message;
  EXPECT_EQ(text(), before);
}

TEST_F(PointFiles, LeaveOtherFilesAlone) {
  for (const char* other : {"# notes\n", "{\"a\": 1}\n", "no line end"}) {
    write(other);
    EXPECT_NE(refusal(path_, kConditions).find("line 1"), std::string::npos) << other;
    EXPECT_EQ(text(), other);
  }
  write("{\"conditions\":{\"device\":\"H100\",\"driver\":\"580\"}}\nnonsense\n");
  EXPECT_NE(refusal(path_, kConditions).find("line 2"), std::string::npos);
}

TEST(PointFile, SaysWhenTheDiskRefuses) {
  EXPECT_THROW(PointFile("/nonexistent/points.jsonl", kConditions), std::runtime_error);
}

}  // namespace
}  // namespace msmoe::profiler
