#include "executor/data/open_tokens.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/executor/data_files.h"

namespace msmoe::executor {
namespace {

class OpenTokens : public DataFiles {
 protected:
  Tokens read(const std::vector<std::string>& data) { return read_all(*open_tokens(data, 256)); }
  std::string refusal_of(const std::string& data, std::int64_t vocabulary_size = 256) {
    return without_folder(refusal([&] { open_tokens({data}, vocabulary_size); }));
  }
  // Three tokens: 7, 8, 9.
  std::string write_pair(const std::string& prefix) {
    write(prefix + ".bin", bytes_of<std::uint16_t>(Tokens{7, 8, 9}));
    write(prefix + ".idx", megatron_index(8, 2, {{3}}));
    return path(prefix);
  }
};

TEST_F(OpenTokens, TextIsReadByteByByte) {
  std::string text = "Erd\xc3\xb6s\r\n";
  const auto source = open_tokens({write("a.txt", text)}, 256);
  EXPECT_EQ(read_all(*source), (Tokens{'E', 'r', 'd', 0xc3, 0xb6, 's', '\r', '\n'}));
  EXPECT_EQ(document_begins(*source), (std::vector<std::int64_t>{0, 8}));
  EXPECT_EQ(source->name(), path("a.txt"));
}

TEST_F(OpenTokens, EveryFormatIsKnown) {
  write_pair("set");
  for (const char* name : {"set", "set.bin", "set.idx"}) EXPECT_EQ(read({path(name)}), (Tokens{7, 8, 9})) << name;
  const std::string gpt2 = llm_c_file<std::uint16_t>(20240520, 1, {5, 6});
  EXPECT_EQ(read({write("shard.bin", gpt2)}), (Tokens{5, 6}));
  EXPECT_EQ(read({write("shard", gpt2)}), (Tokens{5, 6}));
  EXPECT_EQ(read({write("README", "hi")}), (Tokens{'h', 'i'}));
}

TEST_F(OpenTokens, SeveralAreJoinedInOrder) {
  write("b.txt", "xyz");
  write("a.txt", "");
  write_pair("set");
  write("shard.bin", llm_c_file<std::uint32_t>(20240801, 7, {5, 6}));
  const auto source = open_tokens(
      {path("b.txt"), path("a.txt"), path("set.bin"), path("set.idx"), path("shard.bin"), path("b.txt")}, 256);
  const Tokens all = {'x', 'y', 'z', 7, 8, 9, 5, 6, 'x', 'y', 'z'};
  EXPECT_EQ(read_all(*source), all);
  EXPECT_EQ(document_begins(*source), (std::vector<std::int64_t>{0, 3, 3, 6, 8, 11}));
  EXPECT_EQ(source->name(), path("b.txt and 4 more"));
  for (std::size_t first = 0; first <= all.size(); ++first)
    for (std::size_t end = first; end <= all.size(); ++end) {
      Tokens some(end - first);
      source->copy(static_cast<std::int64_t>(first), some);
      EXPECT_EQ(some, Tokens(all.begin() + static_cast<std::ptrdiff_t>(first),
                             all.begin() + static_cast<std::ptrdiff_t>(end)));
    }
}

TEST_F(OpenTokens, AFolderIsItsFilesByName) {
  write("b", "2");
  write("a", "1");
  write("c", "3");
  write(".hidden", "x");
  write_pair("d");
  std::filesystem::create_directory(path("inner"));
  EXPECT_EQ(read({scratch_.path()}), (Tokens{'1', '2', '3', 7, 8, 9}));
  EXPECT_EQ(refusal_of(path("inner")), "inner: has no file in it; put text or tokenized files there");
}

TEST_F(OpenTokens, SyntheticTakesASeed) {
  Tokens none(20), zero(20), seven(20);
  open_tokens({"synthetic"}, 1000)->copy(5, none);
  open_tokens({"synthetic:0"}, 1000)->copy(5, zero);
  open_tokens({"synthetic:7"}, 1000)->copy(5, seven);
  EXPECT_EQ(none, zero);
  EXPECT_NE(none, seven);
  EXPECT_EQ(open_tokens({"synthetic:18446744073709551615"}, 1000)->name(), "synthetic:18446744073709551615");
  for (const char* data :
       {"synthetic:", "synthetic:x", "synthetic:1x", "synthetic:-1", "synthetic:18446744073709551616"})
    EXPECT_EQ(refusal_of(data),
              std::string(data) + ": has no seed that can be read; a whole number from 0 to 2^64 - 1 is allowed");
}

TEST_F(OpenTokens, WhatCannotBeReadIsRefusedInWords) {
  EXPECT_EQ(refusal([&] { open_tokens({}, 256); }), "no data is named; name a file, a folder or synthetic");
  EXPECT_EQ(refusal_of(path("missing")), "missing: cannot be read: No such file or directory");
  EXPECT_EQ(refusal_of(write("empty.txt", "")), "empty.txt: holds no token; 1 or more are needed");
  EXPECT_EQ(
      refusal_of(write("a.txt", "text"), 255),
      "a.txt: is text, whose bytes are 256 tokens, but the model has 255; take a model of a larger vocabulary, or "
      "tokenized data");
  const std::string unknown =
      ": is of no format that is read; allowed are text, a .bin of llm.c, and a .bin of Megatron with its .idx beside "
      "it";
  EXPECT_EQ(refusal_of(write("a.bin", "text")), "a.bin" + unknown);
  EXPECT_EQ(refusal_of(write("a.npy", std::string("\x93NUMPY\1\0", 8))), "a.npy" + unknown);
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(refusal_of(path("pipe")), "pipe: is not a regular file");
}

}  // namespace
}  // namespace msmoe::executor
