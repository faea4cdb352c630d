#include "reports/trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace msmoe::reports {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

class TraceTest : public testing::Test {
 protected:
  ~TraceTest() override { std::filesystem::remove(path_); }

  std::string text() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // Parsed, after a check of what every event of the format has.
  json events() const {
    json list = json::parse(text()).at("traceEvents");
    for (const json& event : list) {
      for (const char* key : {"name", "cat", "ph"}) EXPECT_TRUE(event.at(key).is_string()) << event;
      for (const char* key : {"pid", "tid"}) EXPECT_TRUE(event.at(key).is_number_integer()) << event;
      EXPECT_TRUE(event.at("ts").is_number()) << event;
      EXPECT_TRUE(event.at("args").is_object()) << event;
    }
    return list;
  }

  std::string path_ = testing::TempDir() + "msmoe_trace_" + std::to_string(::getpid()) + ".json";
};

// 12.5 us is 12,500,000 ps; 3 us and 1 ps is 3.000001 us.
TEST_F(TraceTest, GoldenFile) {
  TraceWriter trace(path_, {{"tool", "msmoe-sim"}, {"gpus", 1440}});
  trace.thread_name(0, 1, "compute", 2);
  trace.complete(0, 1, "attention", "compute", 12500ns, 3us + Duration{1}, {{"layer", 3}, {"gb_per_s", 181.5}});
  trace.finish();
  EXPECT_EQ(text(), R"({"traceEvents":[
{"name":"thread_name","cat":"__metadata","ph":"M","ts":0,"pid":0,"tid":1,"args":{"name":"compute"}},
{"name":"thread_sort_index","cat":"__metadata","ph":"M","ts":0,"pid":0,"tid":1,"args":{"sort_index":2}},
{"name":"attention","cat":"compute","ph":"X","ts":12.5,"pid":0,"tid":1,"dur":3.000001,"args":{"layer":3,"gb_per_s":181.5}}
],"displayTimeUnit":"ms","otherData":{"tool":"msmoe-sim","gpus":1440}}
)");
}

TEST_F(TraceTest, EveryKindOfEventHasItsFields) {
  TraceWriter trace(path_);
  trace.process_name(2, "stage 2", 7);
  trace.counter(2, "memory", 1us, {{"parameters", 21.5}, {"activations", 33.25}});
  trace.flow(42, {0, 1, 2us}, {2, 3, 5us}, "send");
  trace.finish();

  const json list = events();
  ASSERT_EQ(list.size(), 5u);
  EXPECT_EQ(list[0].at("name"), "process_name");
  EXPECT_EQ(list[0].at("ph"), "M");
  EXPECT_EQ(list[0].at("pid"), 2);
  EXPECT_EQ(list[0].at("args").at("name"), "stage 2");
  EXPECT_EQ(list[1].at("name"), "process_sort_index");
  EXPECT_EQ(list[1].at("args").at("sort_index"), 7);

  EXPECT_EQ(list[2].at("ph"), "C");
  EXPECT_EQ(list[2].at("ts"), 1);
  EXPECT_EQ(list[2].at("args"), (json{{"parameters", 21.5}, {"activations", 33.25}}));

  EXPECT_EQ(list[3].at("ph"), "s");
  EXPECT_EQ(list[3].at("tid"), 1);
  EXPECT_EQ(list[3].at("ts"), 2);
  EXPECT_EQ(list[4].at("ph"), "f");
  EXPECT_EQ(list[4].at("pid"), 2);
  EXPECT_EQ(list[4].at("ts"), 5);
  EXPECT_EQ(list[4].at("bp"), "e");
  for (const char* key : {"id", "name", "cat"}) EXPECT_EQ(list[3].at(key), list[4].at(key));
  EXPECT_EQ(list[3].at("id"), 42);
}

// An hour is 3.6e9 us; with its picosecond that is 16 digits, as many as a double keeps.
TEST_F(TraceTest, PicosecondsSurviveAnHour) {
  TraceWriter trace(path_);
  trace.complete(0, 0, "late", "compute", 1h + Duration{1}, Duration{20});
  trace.finish();
  EXPECT_NE(text().find("\"ts\":3600000000.000001,"), std::string::npos);
  EXPECT_NE(text().find("\"dur\":0.00002,"), std::string::npos);
}

TEST_F(TraceTest, TextIsEscaped) {
  const std::string name = "a \"quoted\" \\ name\nwith \x01 and é";
  TraceWriter trace(path_, {{"key \"", "value \\"}});
  trace.complete(0, 0, name, "compute", 0us, 1us, {{"why\t", name}});
  trace.complete(0, 0, "bad \xff byte", "compute", 1us, 1us);
  trace.finish();
  const json list = events();
  EXPECT_EQ(list[0].at("name"), name);
  EXPECT_EQ(list[0].at("args").at("why\t"), name);
  EXPECT_EQ(list[1].at("name"), "bad \xEF\xBF\xBD byte");
  EXPECT_EQ(json::parse(text()).at("otherData").at("key \""), "value \\");
}

TEST_F(TraceTest, AnEmptyTraceIsATrace) {
  TraceWriter(path_).finish();
  EXPECT_EQ(events().size(), 0u);
  EXPECT_EQ(json::parse(text()).at("displayTimeUnit"), "ms");
}

// 20,000 events of some 90 bytes cross the write buffer of 1 MiB.
TEST_F(TraceTest, ManyEventsArriveInOrder) {
  TraceWriter trace(path_);
  for (int event = 0; event < 20000; ++event) trace.complete(event % 8, 0, "gemm", "compute", event * 1us, 1us);
  trace.finish();
  const json list = events();
  ASSERT_EQ(list.size(), 20000u);
  for (int event = 0; event < 20000; ++event) ASSERT_EQ(list[event].at("ts"), event);
}

TEST_F(TraceTest, NoFileBeforeFinishAndNoneWithoutIt) {
  {
    TraceWriter trace(path_);
    for (int event = 0; event < 20000; ++event) trace.complete(0, 0, "gemm", "compute", event * 1us, 1us);
    EXPECT_FALSE(std::filesystem::exists(path_));
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(TraceTest, AFullDiskIsOneClearLine) {
  TraceWriter trace("/dev/full");
  try {
    trace.finish();
    FAIL() << "the disk was full";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "/dev/full: cannot be written: No space left on device");
  }
}

}  // namespace
}  // namespace msmoe::reports
