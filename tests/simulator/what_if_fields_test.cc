// Every field of the three nouns can be changed by name: the structs are read from their headers, so that a field added
// there and forgotten here fails.
#include "simulator/what_if_fields.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/text_file.h"
#include "simulator/study.h"

namespace msmoe::simulator {
namespace {

// Data members of `struct NAME { ... };` in a header: declarations at its own level that are no functions.
std::vector<std::string> members_of(const std::string& header, const std::string& name) {
  static const std::regex kMember(R"(^  [A-Za-z_][\w:<>, ]*[\w>] (\w+)(?: = [^;]*|\{\})?;)");
  std::istringstream lines(read_text_file(std::string(MSMOE_SOURCE_DIR) + "/core/" + header));
  std::vector<std::string> members;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line == "struct " + name + " {") inside = true;
    if (line == "};") inside = false;
    std::smatch match;
    if (inside && std::regex_search(line, match, kMember)) members.push_back(match[1]);
  }
  return members;
}

// Where the key has another name than the member; empty: no key, for the reason beside it.
const std::map<std::string, std::string>& renamed() {
  static const std::map<std::string, std::string> table = {
      {"Plan.context_degree", "cp"},
      {"Plan.in_layer_overlap", "overlap"},
      {"Plan.notes", ""},  // for people
      {"Cluster.name", ""},
      {"Cluster.source", ""},
      {"Cluster.gpu", ""},                  // its members are below
      {"Cluster.collectives", ""},          // tables: dropped where a wire changes
      {"Cluster.fits", ""},                 // a profile's
      {"Cluster.gpu_is_hypothetical", ""},  // follows from other keys
      {"Gpu.name", ""},
      {"Model.name", ""},
      {"Model.family", ""},
      {"Model.max_seq_len", ""},  // bears on nothing
      {"Model.kinds", ""},        // their members are below
      {"Model.predict_kind", ""},
      {"Model.final_norm_parameters", ""},   // vectors: counted, without bearing on time
      {"Model.head_vector_parameters", ""},  // likewise
      {"Model.defaulted", ""},
      {"Model.ignored", ""},
      {"LayerKind.attention", ""},
      {"LayerKind.feed_forward", ""},
      {"LayerKind.norm_parameters", ""},
      {"Cluster.contention", ""},                 // measured
      {"Attention.kind", ""},                     // its shapes would have no meaning
      {"Attention.vector_parameters", ""},        // vectors
      {"Attention.mixer_matrix_parameters", ""},  // of layers that cannot be planned
      {"FeedForward.width", "expert_width"},      // and dense_width
      {"FeedForward.router", ""},                 // both kinds cost alike
      {"FeedForward.vector_parameters", ""},
      {"FeedForward.expert_vector_parameters", ""}};
  return table;
}

void expect_all_named(const std::string& header, const std::string& name, std::size_t at_least) {
  const std::vector<std::string> keys = change_names();
  const std::vector<std::string> members = members_of(header, name);
  EXPECT_GE(members.size(), at_least) << name;
  for (const std::string& member : members) {
    const auto found = renamed().find(name + "." + member);
    const std::string key = found == renamed().end() ? member : found->second;
    EXPECT_TRUE(key.empty() || std::find(keys.begin(), keys.end(), key) != keys.end())
        << name << "." << member << " has no key of --what-if: add one, or say here why not";
  }
}

TEST(Fields, OfAClusterAllHaveAKey) {
  expect_all_named("cluster.h", "Cluster", 20);
  expect_all_named("gpu.h", "Gpu", 7);
}

TEST(Fields, OfAPlanAllHaveAKey) { expect_all_named("plan.h", "Plan", 33); }

TEST(Fields, OfAModelAllHaveAKey) {
  expect_all_named("model.h", "Model", 12);
  expect_all_named("model.h", "LayerKind", 3);
  expect_all_named("model.h", "Attention", 13);
  expect_all_named("model.h", "FeedForward", 10);
}

// A name that stands for no member any more is an excuse for the next one.
TEST(Fields, NoneIsExcusedThatDoesNotExist) {
  std::set<std::string> members;
  for (const auto& [header, name] : {std::pair{"cluster.h", "Cluster"},
                                     {"gpu.h", "Gpu"},
                                     {"plan.h", "Plan"},
                                     {"model.h", "Model"},
                                     {"model.h", "LayerKind"},
                                     {"model.h", "Attention"},
                                     {"model.h", "FeedForward"}})
    for (const std::string& member : members_of(header, name)) members.insert(std::string(name) + "." + member);
  for (const auto& [member, key] : renamed()) EXPECT_TRUE(members.contains(member)) << member;
}

Scenario changed(const std::string& plan, const std::string& changes) {
  Scenario scenario = load_scenario(plan);
  apply_changes(scenario, parse_changes(changes, "--what-if"));
  return scenario;
}

TEST(Fields, SetWhatTheyName) {
  const Cluster cluster =
      changed("megascale-moe-352b",
              "watts=500,node_overhead_watts=2000,pue=1.3,failures_per_gpu_day=0.001,restart_time=5 "
              "min,checkpoint_bandwidth=2 GB/s,checkpoint_interval=1 h,host_memory_per_node=1 TB")
          .cluster;
  EXPECT_EQ(cluster.gpu.watts, 500);
  EXPECT_EQ(cluster.node_overhead_watts, 2000);
  EXPECT_EQ(cluster.pue, 1.3);
  EXPECT_EQ(cluster.failures_per_gpu_day, 0.001);
  EXPECT_EQ(cluster.restart_time, seconds(300));
  EXPECT_EQ(cluster.checkpoint_bandwidth, BytesPerSecond{2e9});
  EXPECT_EQ(cluster.checkpoint_interval, seconds(3600));
  EXPECT_EQ(cluster.host_memory_per_node, Bytes{1e12});

  const Model latent =
      changed("deepseek-v3-2048", "kv_rank=256,query_rank=0,rope_dim=32,value_dim=64,head_dim=160,matrices=2").model;
  for (const LayerKind& kind : latent.kinds) {
    EXPECT_EQ(kind.attention.kv_rank, 256);
    EXPECT_EQ(kind.attention.query_rank, 0);
    EXPECT_EQ(kind.attention.rope_dim, 32);
    EXPECT_EQ(kind.attention.value_dim, 64);
    EXPECT_EQ(kind.attention.head_dim, 160);
    EXPECT_EQ(kind.feed_forward.matrices, 2);
  }
  const Model grouped = changed("megascale-moe-352b", "chunked=on,output_gate=on,tied_embeddings=on").model;
  EXPECT_TRUE(grouped.tied_embeddings);
  for (const LayerKind& kind : grouped.kinds) EXPECT_TRUE(kind.attention.chunked && kind.attention.output_gate);
}

// Nodes are counted in GPUs a node, wherever the two stand. One rail is one network card.
TEST(Fields, NodesAndRails) {
  EXPECT_EQ(changed("megascale-moe-352b", "nodes=60").plan.gpus, 480);
  EXPECT_EQ(changed("megascale-moe-352b", "nodes=60,gpus_per_node=4").plan.gpus, 240);
  EXPECT_EQ(changed("megascale-moe-352b", "rails=1").cluster.nics_per_node, 1);
}

TEST(Fields, RefuseWhatCannotBe) {
  for (const char* changes :
       {"nodes=0", "pue=0.9", "chunked=yes", "matrices=4", "kv_rank=64", "restart_time=5", "watts=-1",
        "model=deepseek-v3,rope_dim=4096", "model=deepseek-v3,head_dim=16", "model=deepseek-v3,output_gate=on"})
    EXPECT_THROW(changed("megascale-moe-352b", changes), UserError) << changes;
}

// Sweeps of each noun reach the answer: all rows differ in the column that they should move.
TEST(Fields, MoveTheAnswer) {
  const std::pair<const char*, const char*> sweeps[] = {{"nic=100G,400G", "step_s"},
                                                        {"seq_len=4096,8192", "step_s"},
                                                        {"top_k=2,3", "step_s"},
                                                        {"imbalance=1,1.5", "step_s"},
                                                        {"precision=bf16,fp8", "step_s"},
                                                        {"price=1,2", "usd_with_failures"},
                                                        {"watts=500,700", "energy_mwh"},
                                                        {"pue=1,1.2", "energy_mwh"},
                                                        {"restart_time=1 min,1 h", "goodput"},
                                                        {"memory=80 GiB,90 GiB", "usable_gib"},
                                                        {"hbm=2 TB/s,4 TB/s", "step_s"},
                                                        {"nodes=90,180", "step_s"},
                                                        {"bf16_peak=800 TFLOPS,989 TFLOPS", "step_s"},
                                                        {"failures_per_gpu_day=0.0001,0.001", "days_with_failures"}};
  for (const auto& [sweep, column] : sweeps) {
    std::vector<Outcome> outcomes;
    for (const auto& changes : cross_product({sweep}))
      outcomes.push_back(try_scenario(load_scenario("megascale-moe-352b"), changes, {}));
    std::istringstream lines(outcomes_csv(outcomes, 1e12));
    std::vector<std::string> values;
    std::string header;
    std::getline(lines, header);
    std::vector<std::string> names;
    for (std::istringstream cells(header); std::getline(cells, names.emplace_back(), ',');) {
    }
    const auto at = std::find(names.begin(), names.end(), column) - names.begin();
    for (std::string line; std::getline(lines, line);) {
      std::istringstream cells(line);
      std::string cell;
      for (std::ptrdiff_t index = 0; index <= at; ++index) std::getline(cells, cell, ',');
      EXPECT_FALSE(cell.empty()) << sweep << "\n" << line;
      values.push_back(cell);
    }
    ASSERT_EQ(values.size(), 2u) << sweep;
    EXPECT_NE(values[0], values[1]) << sweep << " does not move " << column;
  }
}

}  // namespace
}  // namespace msmoe::simulator
