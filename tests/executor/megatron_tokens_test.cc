#include "executor/data/megatron_tokens.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/executor/data_files.h"

namespace msmoe::executor {
namespace {

struct Type {
  int number;
  std::int64_t bytes;
  std::int32_t most;  // that the type holds and the test uses
  std::function<std::string(const Tokens&)> write;
};

const std::vector<Type> kTypes = {
    {1, 1, 255, bytes_of<std::uint8_t, std::int32_t>},     {2, 1, 127, bytes_of<std::int8_t, std::int32_t>},
    {3, 2, 32'767, bytes_of<std::int16_t, std::int32_t>},  {4, 4, 100'000, bytes_of<std::int32_t, std::int32_t>},
    {5, 8, 100'000, bytes_of<std::int64_t, std::int32_t>}, {8, 2, 65'535, bytes_of<std::uint16_t, std::int32_t>}};

// Three documents, the second of two sequences of which one is empty, the third without any.
const std::vector<std::vector<std::int32_t>> kDocuments = {{5}, {0, 70'000}, {}, {2}};

class MegatronTokens : public DataFiles {
 protected:
  // The line that refuses this index over 12 tokens of uint16.
  std::string refusal_of(const std::string& index, const std::string& tokens = std::string(24, '\1')) {
    write("set.bin", tokens);
    write("set.idx", index);
    return without_folder(refusal([&] { open_megatron(path("set"), 70'000); }));
  }
};

TEST_F(MegatronTokens, OfEveryTypeAreReadAsWritten) {
  for (const Type& type : kTypes) {
    const Tokens tokens = counting(70'007, type.most);
    write("set.bin", type.write(tokens));
    write("set.idx", megatron_index(type.number, type.bytes, kDocuments));
    const auto source = open_megatron(path("set"), 100'001);
    EXPECT_EQ(source->num_tokens(), 70'007);
    EXPECT_EQ(read_all(*source), tokens) << type.number;
    EXPECT_EQ(source->num_documents(), 4);
    EXPECT_EQ(document_begins(*source), (std::vector<std::int64_t>{0, 5, 70'005, 70'005, 70'007}));
    Tokens some(3);
    source->copy(69'999, some);
    EXPECT_EQ(some, Tokens(tokens.begin() + 69'999, tokens.begin() + 70'002));
  }
}

// More sequences than are checked at a time.
TEST_F(MegatronTokens, OfManyDocuments) {
  const std::vector<std::vector<std::int32_t>> documents(150'000, std::vector<std::int32_t>{1});
  write("set.bin", bytes_of<std::uint16_t>(counting(150'000, 9)));
  write("set.idx", megatron_index(8, 2, documents));
  const auto source = open_megatron(path("set"), 10);
  EXPECT_EQ(source->num_documents(), 150'000);
  for (const std::int64_t document_idx : {0, 1, 65'535, 65'536, 131'072, 150'000})
    EXPECT_EQ(source->document_begin(document_idx), document_idx);
}

TEST_F(MegatronTokens, EmptySetsAreRead) {
  EXPECT_EQ(refusal_of(megatron_index(8, 2, {}), ""), "");
  EXPECT_EQ(refusal_of(megatron_index(8, 2, {{}, {0}}), ""), "");
}

TEST_F(MegatronTokens, OutsideTheVocabularyAreRefusedWhereTheyAreRead) {
  write("set.bin", bytes_of<std::int32_t>(Tokens{0, 31'999, 32'000, -1}));
  write("set.idx", megatron_index(4, 4, {{4}}));
  const auto source = open_megatron(path("set"), 32'000);
  Tokens two(2), one(1);
  source->copy(0, two);
  EXPECT_EQ(two, (Tokens{0, 31'999}));
  EXPECT_EQ(refusal([&] { source->copy(1, two); }),
            path("set.bin: token 2, byte 8: is 32000, which the model has no token for; 0 to 31999 are allowed"));
  EXPECT_EQ(refusal([&] { source->copy(3, one); }),
            path("set.bin: token 3, byte 12: is -1, which the model has no token for; 0 to 31999 are allowed"));
}

TEST_F(MegatronTokens, MalformedIndicesAreRefusedInWords) {
  const std::string good = megatron_index(8, 2, {{5, 1}, {6}});  // sizes at 34, pointers at 46, documents at 70
  ASSERT_EQ(good.size(), 94u);
  ASSERT_EQ(refusal_of(good), "");
  const auto with = [&](std::size_t at, const std::string& bytes) {
    return std::string(good).replace(at, bytes.size(), bytes);
  };
  EXPECT_EQ(refusal_of(""), "set.idx: header: is not the index of a Megatron data set; it has to begin with MMIDIDX");
  EXPECT_EQ(refusal_of(good.substr(0, 20)), "set.idx: header: the file ends after 20 bytes; a header has 34");
  EXPECT_EQ(refusal_of(with(9, bytes_of<std::uint64_t>(2))), "set.idx: version: is 2; 1 is read");
  for (const int number : {0, 6, 7, 9, 255})
    EXPECT_EQ(refusal_of(with(17, bytes_of<std::uint8_t>(number))),
              "set.idx: type of the tokens: is " + std::to_string(number) +
                  "; allowed are 1 (uint8), 2 (int8), 3 (int16), 4 (int32), 5 (int64) and 8 (uint16)");
  EXPECT_EQ(refusal_of(with(18, bytes_of<std::uint64_t>(-1))),
            "set.idx: number of sequences: is 18446744073709551615, more than a file of 94 bytes can hold; is the file "
            "whole?");
  EXPECT_EQ(refusal_of(with(26, bytes_of<std::uint64_t>(1))),
            "set.idx: number of document indices: is 1; 2 or more are allowed for 3 sequences");
  EXPECT_EQ(refusal_of(good.substr(0, 93)),
            "set.idx: header: announces 3 sequences and 3 document indices, but the file has 93 bytes; it has to have "
            "94");
  EXPECT_EQ(refusal_of(with(38, bytes_of<std::int32_t>(-1))),
            "set.idx: sizes[1]: is -1 tokens; 0 to 2147483647 are allowed, and 2^63 bytes in all");
  EXPECT_EQ(refusal_of(with(54, bytes_of<std::int64_t>(8))),
            "set.idx: pointers[1]: is byte 8; the sequence before it ends at 10");
  EXPECT_EQ(refusal_of(with(70, bytes_of<std::int64_t>(1))), "set.idx: documents[0]: is sequence 1; it has to be 0");
  EXPECT_EQ(refusal_of(with(78, bytes_of<std::int64_t>(4))),
            "set.idx: documents[1]: is sequence 4; 0 to 3 are allowed");
  EXPECT_EQ(refusal_of(with(86, bytes_of<std::int64_t>(2))), "set.idx: documents[2]: is sequence 2; it has to be 3");
}

TEST_F(MegatronTokens, TheTwoFilesHaveToFit) {
  const std::string index = megatron_index(8, 2, {{12}});
  for (const std::size_t size : {0, 1, 22, 23, 25, 26}) {
    const std::string line = refusal_of(index, std::string(size, '\1'));
    EXPECT_EQ(line, "set.bin: has " + std::to_string(size) + " bytes, but " + path("set.idx") +
                        " announces 12 tokens of 2 bytes; the two files have to come from one run of the tokenizer");
  }
  std::filesystem::remove(path("set.bin"));
  EXPECT_EQ(refusal([&] { open_megatron(path("set"), 10); }),
            path("set.bin: cannot be read: No such file or directory"));
}

}  // namespace
}  // namespace msmoe::executor
