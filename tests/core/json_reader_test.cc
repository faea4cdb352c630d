#include "core/json_reader.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace msmoe {
namespace {

// What the reader says of this text, or "" where it has no complaint.
template <class Read>
std::string complaint(const std::string& text, Read read) {
  try {
    const JsonDocument document("a.json", text);
    JsonObject root = document.root();
    read(root);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}
std::string complaint(const std::string& text) {
  return complaint(text, [](JsonObject&) {});
}

TEST(JsonReader, ReadsEveryType) {
  const JsonDocument document("a.json", R"({
    "count": 8, "whole": 4096.0, "power": 1e4, "rate": 2.5, "on": true, "name": "h100",
    "gpu": {"sms": 132}, "list": [1, 2], "names": ["a", "b"], "rows": [[1, 0.5], [2, 1]], "items": [{"x": 1}, {"x": 2}],
    "nothing": null})");
  JsonObject root = document.root();
  EXPECT_EQ(root.integer("count"), 8);
  EXPECT_EQ(root.integer("whole"), 4096);
  EXPECT_EQ(root.integer("power"), 10000);
  EXPECT_EQ(root.number("rate"), 2.5);
  EXPECT_EQ(root.number("count"), 8.0);
  EXPECT_TRUE(root.boolean("on"));
  EXPECT_EQ(root.text("name"), "h100");
  EXPECT_EQ(root.object("gpu").integer("sms"), 132);
  EXPECT_EQ(root.integers("list"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(root.texts("names"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(root.rows_of_numbers("rows"), (std::vector<std::vector<double>>{{1, 0.5}, {2, 1}}));
  EXPECT_EQ(root.objects("items")[1].integer("x"), 2);
  EXPECT_EQ(root.integer_or("nothing", 7), 7);
  EXPECT_EQ(root.integer_or("absent", 7), 7);
  EXPECT_EQ(root.text_or("name", "other"), "h100");
  EXPECT_FALSE(root.optional_object("nothing"));
  EXPECT_FALSE(root.has("nothing"));
  EXPECT_EQ(root.find("nothing")->is_null(), true);
  EXPECT_EQ(root.find("absent"), nullptr);
  EXPECT_TRUE(root.unread_keys().empty());
}

TEST(JsonReader, NamesFileKeyPathAndValue) {
  const auto read_sms = [](JsonObject& root) { root.object("gpu").integer("sms", {.min = 1}); };
  EXPECT_EQ(complaint(R"({"gpu": {"sms": "132"}})", read_sms),
            "a.json: gpu.sms: found \"132\"; an integer of at most 2^53 is expected");
  EXPECT_EQ(complaint(R"({"gpu": {"sms": 0}})", read_sms), "a.json: gpu.sms: 0 is out of range; at least 1 is allowed");
  EXPECT_EQ(complaint(R"({"gpu": {"sms": 1.5}})", read_sms),
            "a.json: gpu.sms: found 1.5; an integer of at most 2^53 is expected");
  EXPECT_EQ(complaint(R"({"gpu": [1]})", read_sms), "a.json: gpu: found an array; an object is expected");
  EXPECT_EQ(complaint(R"({"gpu": {"sms": null}})", read_sms), "a.json: gpu.sms: null, but required");
  EXPECT_EQ(complaint(R"({"gpu": {"smss": 132}})", read_sms),
            "a.json: gpu.sms: missing, but required; \"smss\" is there: is it meant?");
  EXPECT_EQ(complaint(R"({"list": [{"x": 1}, {"x": true}]})",
                      [](JsonObject& root) {
                        for (JsonObject& item : root.objects("list")) item.integer("x");
                      }),
            "a.json: list[1].x: found true; an integer of at most 2^53 is expected");
  EXPECT_EQ(complaint(R"({"rows": [[1, 2], [3, "x"]]})", [](JsonObject& root) { root.rows_of_numbers("rows"); }),
            "a.json: rows[1]: found \"x\"; a number is expected");
  EXPECT_EQ(complaint("[1]"), "a.json: found an array; an object is expected");
}

// 2^53 + 1 = 9007199254740993 has no double; the bound itself is still exact.
TEST(JsonReader, RefusesIntegersBeyondTwoToThe53) {
  const auto read = [](JsonObject& root) { root.integer("n"); };
  EXPECT_EQ(complaint(R"({"n": 9007199254740992})", read), "");
  EXPECT_EQ(complaint(R"({"n": -9007199254740992})", read), "");
  for (const char* text : {R"({"n": 9007199254740993})", R"({"n": 18446744073709551615})", R"({"n": 1e300})",
                           R"({"n": -9007199254740993})", R"({"n": 123456789012345678901234567890})"})
    EXPECT_NE(complaint(text, read), "") << text;
}

TEST(JsonReader, UnknownKeysAreRefusedWithTheNearest) {
  const auto read = [](JsonObject& root) {
    root.integer("gpus_per_node");
    root.number_or("price", 0);
    root.refuse_unknown_keys();
  };
  EXPECT_EQ(complaint(R"({"gpus_per_node": 8})", read), "");
  EXPECT_EQ(complaint(R"({"gpus_per_node": 8, "prize": 2})", read),
            "a.json: prize: unknown key; did you mean \"price\"?");
  EXPECT_EQ(complaint(R"({"gpus_per_node": 8, "zzzzzzzz": 2})", read),
            "a.json: zzzzzzzz: unknown key; known are gpus_per_node, price");
}

TEST(JsonReader, UnreadKeysKeepTheOrderOfTheFile) {
  const JsonDocument document("a.json", R"({"z": 1, "m": 2, "a": 3})");
  JsonObject root = document.root();
  root.integer("m");
  EXPECT_EQ(root.unread_keys(), (std::vector<std::string>{"z", "a"}));
}

TEST(JsonReader, RefusesWhatIsNotJson) {
  EXPECT_EQ(complaint(""), "a.json: the file is empty");
  EXPECT_EQ(complaint(" \n\t"), "a.json: the file is empty");
  EXPECT_EQ(complaint("\xef\xbb\xbf{}"),
            "a.json: line 1, column 1: begins with a byte order mark; save it as UTF-8 without one");
  EXPECT_EQ(complaint(R"({"gpu": {"a": 1, "b": 2, "a": 3}})"), "a.json: gpu.a: the key appears twice");
  EXPECT_EQ(complaint(R"({"list": [{}, {"a": 1, "a": 1}]})"), "a.json: list[1].a: the key appears twice");
  // The brace that comes where a key ought to is the third character of the second line.
  EXPECT_EQ(complaint("{\"a\":\n1,}").substr(0, 36), "a.json: line 2, column 3: not JSON: ");
  EXPECT_EQ(complaint("{} {}").substr(0, 36), "a.json: line 1, column 4: not JSON: ");
  EXPECT_EQ(complaint(std::string("{}\0{}", 5)), "a.json: line 1, column 3: not JSON: a zero byte");
  EXPECT_NE(complaint("{\"a\": \"\xff\"}").find("not JSON"), std::string::npos);
  EXPECT_NE(complaint(R"({"a": "\ud800"})").find("not JSON"), std::string::npos);
  EXPECT_NE(complaint(R"({"a": 1e999})").find("not JSON"), std::string::npos);
  for (const char* text : {R"({"a": NaN})", R"({"a": Infinity})", R"({"a": -Infinity})"})
    EXPECT_NE(complaint(text).find("JSON has no NaN and no Infinity"), std::string::npos) << complaint(text);
}

// 64 levels: the object and 63 arrays inside it.
TEST(JsonReader, NestsSixtyFourDeepAndNoDeeper) {
  const auto nested = [](std::size_t arrays) {
    return "{\"a\": " + std::string(arrays, '[') + std::string(arrays, ']') + "}";
  };
  EXPECT_EQ(complaint(nested(63)), "");
  EXPECT_EQ(complaint(nested(64)), "a.json: nested deeper than 64 levels");
  EXPECT_EQ(complaint(std::string(1'000'000, '[')), "a.json: nested deeper than 64 levels");
}

TEST(TextFile, WritesWholeFilesAndReadsThemBack) {
  const std::string path = ::testing::TempDir() + "msmoe_text_file.json";
  write_text_file(path, "first");
  write_text_file(path, "second");
  EXPECT_EQ(read_text_file(path), "second");
  std::filesystem::remove(path);
  EXPECT_THROW(read_text_file(path), UserError);
  EXPECT_THROW(read_text_file(::testing::TempDir()), UserError);
  EXPECT_THROW(read_text_file("/dev/zero"), UserError);  // never ends
  EXPECT_THROW(write_text_file("/nowhere/at/all.json", "x"), std::runtime_error);
}

}  // namespace
}  // namespace msmoe
