#include "core/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/data_files.h"
#include "core/error.h"
#include "core/json_reader.h"
#include "core/units_text.h"

namespace msmoe {
namespace {

const std::vector<std::string>& known_collectives() {
  static const std::vector<std::string> names = {"all_gather", "reduce_scatter", "all_to_all", "all_reduce"};
  return names;
}

// The value of a key that carries a unit, through one of the parsers of core/units_text.h.
template <class Quantity>
Quantity quantity(JsonObject& object, const std::string& key, Quantity (*parse)(std::string_view, const Place&)) {
  return parse(object.text_with_unit(key), {object.file(), object.path(key)});
}

template <class Quantity>
Quantity quantity_or_none(JsonObject& object, const std::string& key,
                          Quantity (*parse)(std::string_view, const Place&)) {
  object.mark_read(key);
  return object.has(key) ? quantity(object, key, parse) : Quantity{};
}

std::optional<double> number_or_none(JsonObject& object, const std::string& key, NumberRange range) {
  object.mark_read(key);
  if (!object.has(key)) return std::nullopt;
  return object.number(key, range);
}

Gpu read_gpu(JsonObject object) {
  Gpu gpu;
  gpu.name = object.text("name");
  gpu.fp32_peak = quantity_or_none(object, "fp32_peak", parse_flop_rate);
  gpu.bf16_peak = gpu.fp32_peak.count > 0 ? quantity_or_none(object, "bf16_peak", parse_flop_rate)
                                          : quantity(object, "bf16_peak", parse_flop_rate);
  gpu.fp8_peak = quantity_or_none(object, "fp8_peak", parse_flop_rate);
  gpu.memory = quantity(object, "memory", parse_bytes);
  gpu.hbm = quantity(object, "hbm", parse_bandwidth);
  gpu.sms = object.integer("sms", {.min = 1, .max = 1024});
  gpu.watts = object.number_or("watts", 0, {.min = 0, .max = 10'000});
  if (gpu.memory < Bytes{kGiB})
    object.fail("memory", format_bytes(gpu.memory) + " is too small", "at least 1 GiB is allowed");
  object.refuse_unknown_keys();
  return gpu;
}

// Of a file that the cluster's names: relative to it.
std::string path_beside(const JsonObject& object, const std::string& name) {
  return (std::filesystem::path(object.file()).parent_path() / name).lexically_normal().string();
}

std::vector<CollectivePoint> read_points(JsonObject& object) {
  const bool inline_table = object.has("nccl_tests");
  if (inline_table == object.has("table_file"))
    object.fail("nccl_tests", "a table is needed", "give either nccl_tests (its text) or table_file (its path)");
  object.mark_read(inline_table ? "table_file" : "nccl_tests");
  if (inline_table)
    return parse_nccl_tests_table(object.file() + ": " + object.path("nccl_tests"), object.text("nccl_tests"));
  const std::string path = path_beside(object, object.text("table_file"));
  return parse_nccl_tests_table(path, read_text_file(path));
}

CollectiveTable read_collective(JsonObject object) {
  CollectiveTable table;
  table.collective = object.text("collective");
  const std::vector<std::string>& known = known_collectives();
  if (std::find(known.begin(), known.end(), table.collective) == known.end())
    object.fail("collective", fmt::format("\"{}\" is unknown", excerpt(table.collective)), "known are " + join(known));
  table.ranks = static_cast<int>(object.integer("ranks", {.min = 2, .max = 1 << 20}));
  table.ranks_per_node = static_cast<int>(object.integer("ranks_per_node", {.min = 1, .max = table.ranks}));
  table.source = object.text("source");
  table.points = read_points(object);
  object.refuse_unknown_keys();
  return table;
}

// A name that ships, or a file.
const Profile& read_profile(JsonObject& root) {
  const std::string name = root.text_or("profile", kBaseProfile);
  return find_profile(name.ends_with(".json") ? path_beside(root, name) : name);
}

Cluster read(const JsonDocument& document) {
  JsonObject root = document.root();
  Cluster cluster;
  cluster.name = root.text_or("name", std::filesystem::path(document.name()).stem().string());
  root.mark_read("source");
  if (root.has("source")) cluster.source = join(root.texts("source"), "; ");
  cluster.gpu = read_gpu(root.object("gpu"));
  cluster.gpus_per_node = root.integer("gpus_per_node", {.min = 1, .max = 1024});
  cluster.nvlink = quantity(root, "nvlink", parse_bandwidth);
  cluster.nvlink_latency = quantity(root, "nvlink_latency", parse_duration);
  cluster.nics_per_node = root.integer("nics_per_node", {.min = 1, .max = 1024});
  cluster.nic = quantity(root, "nic", parse_bandwidth);
  cluster.network_latency = quantity(root, "network_latency", parse_duration);
  cluster.oversubscription = root.number_or("oversubscription", 1, {.min = 1, .max = 1000});
  cluster.pcie = quantity(root, "pcie", parse_bandwidth);
  cluster.host_memory_per_node = quantity_or_none(root, "host_memory_per_node", parse_bytes);
  cluster.price_per_gpu_hour = number_or_none(root, "price_per_gpu_hour", {.min = 0, .max = 10'000});
  cluster.node_overhead_watts = root.number_or("node_overhead_watts", 0, {.min = 0, .max = 100'000});
  cluster.pue = root.number_or("pue", 1, {.min = 1, .max = 10});
  cluster.failures_per_gpu_day = number_or_none(root, "failures_per_gpu_day", {.min = 0, .max = 1000});
  root.mark_read("restart_time");
  if (root.has("restart_time")) cluster.restart_time = quantity(root, "restart_time", parse_duration);
  cluster.checkpoint_bandwidth = quantity_or_none(root, "checkpoint_bandwidth", parse_bandwidth);
  cluster.checkpoint_interval = quantity_or_none(root, "checkpoint_interval", parse_duration);
  cluster.reserved_memory = quantity(root, "reserved_memory", parse_bytes);
  if (cluster.reserved_memory >= cluster.gpu.memory)
    root.fail("reserved_memory", format_bytes(cluster.reserved_memory) + " leaves no memory",
              fmt::format("the GPU has {}", format_bytes(cluster.gpu.memory)));
  root.mark_read("communicator_memory");
  if (root.has("communicator_memory")) cluster.communicator_memory = quantity(root, "communicator_memory", parse_bytes);
  root.mark_read("collectives");
  if (root.has("collectives"))
    for (JsonObject& table : root.objects("collectives")) cluster.collectives.push_back(read_collective(table));
  const Profile& profile = read_profile(root);
  cluster.fits = operator_fits(profile);
  cluster.contention = contention_of(profile);
  if (!profile.fits.empty() && was_measured_on(profile.gpu, cluster.gpu))
    cluster.collectives.insert(cluster.collectives.end(), profile.collectives.begin(), profile.collectives.end());
  root.refuse_unknown_keys();
  return cluster;
}

}  // namespace

Cluster read_cluster(const std::string& path) { return read(read_json_file(path)); }

Cluster parse_cluster(const std::string& name, std::string_view json_text) {
  return read(JsonDocument(name, json_text));
}

Cluster find_cluster(const std::string& name_or_path) { return read_cluster(find_data_file("clusters", name_or_path)); }

}  // namespace msmoe
