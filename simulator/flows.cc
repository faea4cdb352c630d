#include "simulator/flows.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <map>
#include <utility>

#include "simulator/cost_constants.h"

namespace msmoe::simulator {
namespace {

// A port with less than this share of its capacity left is full; a flow with less than this share of its bytes left has
// ended: doubles do not add up exactly.
constexpr double kRounding = 1e-12;

class FlowRun {
 public:
  explicit FlowRun(const FlowJob& job) : job_(job), left_(job.classes.size()), rate_(job.classes.size()) {
    result_.ends.resize(job.classes.size());
    result_.carried.resize(job.ports.size());
    for (std::size_t c = 0; c < job.classes.size(); ++c) {
      left_[c] = job.classes[c].size.count;
      if (left_[c] > 0) active_.push_back(c);
    }
  }

  FlowResult run() {
    double now = 0;
    while (!active_.empty()) {
      fill();
      ++result_.rate_changes;
      double step = std::numeric_limits<double>::infinity();
      for (const std::size_t c : active_) step = std::min(step, left_[c] / rate_[c]);
      now += step;
      for (const std::size_t c : active_) advance(c, step, now);
      std::erase_if(active_, [&](std::size_t c) { return left_[c] == 0; });
    }
    result_.makespan = seconds(now);
    return std::move(result_);
  }

 private:
  // Progressive filling. rising: the classes that no full port holds.
  void fill() {
    spare_.clear();
    for (const BytesPerSecond& port : job_.ports) spare_.push_back(port.count);
    std::vector<std::size_t>& rising = rising_;
    rising = active_;
    double level = 0;
    while (!rising.empty()) {
      slope_.assign(job_.ports.size(), 0);
      for (const std::size_t c : rising) {
        slope_[job_.classes[c].out_port] += job_.classes[c].per_out_port;
        slope_[job_.classes[c].in_port] += job_.classes[c].per_in_port;
      }
      double rise = std::numeric_limits<double>::infinity();
      for (std::size_t port = 0; port < spare_.size(); ++port)
        if (slope_[port] > 0) rise = std::min(rise, spare_[port] / slope_[port]);
      level += rise;
      for (std::size_t port = 0; port < spare_.size(); ++port) {
        spare_[port] -= slope_[port] * rise;
        if (spare_[port] < kRounding * job_.ports[port].count) spare_[port] = 0;
      }
      std::erase_if(rising, [&](std::size_t c) {
        const bool held = spare_[job_.classes[c].out_port] == 0 || spare_[job_.classes[c].in_port] == 0;
        if (held) rate_[c] = level;
        return held;
      });
    }
  }

  void advance(std::size_t c, double step, double now) {
    const FlowClass& flows = job_.classes[c];
    double sent = std::min(left_[c], rate_[c] * step);
    if (left_[c] - sent < kRounding * flows.size.count) {
      sent = left_[c];
      result_.ends[c] = seconds(now);
    }
    left_[c] -= sent;
    result_.carried[flows.out_port] += sent * flows.per_out_port;
    result_.carried[flows.in_port] += sent * flows.per_in_port;
  }

  const FlowJob& job_;
  std::vector<double> left_, rate_, spare_, slope_;
  std::vector<std::size_t> active_, rising_;
  FlowResult result_;
};

enum PortKind : std::uint8_t { kNvlinkOut, kNvlinkIn, kNicOut, kNicIn, kNumPortKinds };

// Four ports for each kind of GPU.
std::vector<BytesPerSecond> ports_of(const FlowNetwork& network, std::size_t kinds) {
  std::vector<BytesPerSecond> ports(kinds * kNumPortKinds, network.nvlink);
  for (std::size_t kind = 0; kind < kinds; ++kind)
    for (const PortKind nic : {kNicOut, kNicIn}) ports[kind * kNumPortKinds + nic] = network.nic;
  return ports;
}
std::int32_t port(std::size_t gpu_kind, PortKind kind) {
  return static_cast<std::int32_t>(gpu_kind * kNumPortKinds + kind);
}

// GPUs are alike if their loads are, and those of the GPUs that they share a node with.
struct GpuKinds {
  struct Kind {
    double load = 0;
    std::size_t node = 0;  // index in nodes
    double count = 0;      // in the whole group
  };
  std::vector<Kind> kinds;
  std::vector<std::map<std::size_t, double>> nodes;  // of each kind of node: its GPUs, by kind
  std::vector<double> node_counts;
};

GpuKinds kinds_of(const FlowNetwork& network, const std::vector<double>& loads) {
  GpuKinds result;
  std::map<std::vector<double>, std::size_t> known_nodes;
  for (std::int64_t first = 0; first < network.gpus; first += network.gpus_per_node) {
    std::vector<double> node(loads.begin() + first,
                             loads.begin() + std::min(network.gpus, first + network.gpus_per_node));
    std::sort(node.begin(), node.end());
    const auto [found, is_new] = known_nodes.try_emplace(node, result.nodes.size());
    if (is_new) {
      result.nodes.emplace_back();
      result.node_counts.push_back(0);
      for (const double load : node) {
        if (result.kinds.empty() || result.kinds.back().load != load || result.kinds.back().node != found->second)
          result.kinds.push_back({.load = load, .node = found->second});
        ++result.nodes.back()[result.kinds.size() - 1];
      }
    }
    ++result.node_counts[found->second];
    for (const auto& [kind, count] : result.nodes[found->second]) result.kinds[kind].count += count;
  }
  return result;
}

}  // namespace

FlowNetwork flow_network(const Cluster& cluster, const Group& group, Collective collective) {
  const double nvlink = kNvlinkFraction * (collective == Collective::kAllToAll ? kAllToAllFraction : 1);
  return {.gpus = group.size,
          .gpus_per_node = group.ranks_per_node,
          .nvlink = cluster.nvlink * nvlink,
          .nic = cluster.nic_per_gpu() * (kNicFraction / cluster.oversubscription)};
}

FlowResult run_flows(const FlowJob& job) { return FlowRun(job).run(); }

FlowJob all_to_all_flows(const FlowNetwork& network, Bytes payload, const std::vector<double>& loads,
                         LoadedEnd loaded) {
  assert(static_cast<std::int64_t>(loads.size()) == network.gpus);
  const GpuKinds gpus = kinds_of(network, loads);
  FlowJob job{.ports = ports_of(network, gpus.kinds.size()), .classes = {}};
  const auto neighbours = [&](std::size_t of, std::size_t kind) {  // GPUs of a kind in a node of `of`
    const auto& node = gpus.nodes[gpus.kinds[of].node];
    const auto found = node.find(kind);
    return found == node.end() ? 0.0 : found->second;
  };
  for (std::size_t from = 0; from < gpus.kinds.size(); ++from) {
    for (std::size_t to = 0; to < gpus.kinds.size(); ++to) {
      const double load = gpus.kinds[loaded == LoadedEnd::kDestination ? to : from].load;
      const Bytes size = payload * (load / static_cast<double>(network.gpus));
      const auto add = [&](PortKind out, PortKind in, double per_out, double per_in) {
        if (per_out > 0 && size.count > 0)
          job.classes.push_back(
              {port(from, out), port(to, in), size, per_out, per_in, per_out * gpus.kinds[from].count});
      };
      const double itself = from == to ? 1 : 0;
      add(kNvlinkOut, kNvlinkIn, neighbours(from, to) - itself, neighbours(to, from) - itself);
      add(kNicOut, kNicIn, gpus.kinds[to].count - neighbours(from, to), gpus.kinds[from].count - neighbours(to, from));
    }
  }
  return job;
}

FlowJob all_to_all_flows(const FlowNetwork& network, const std::vector<std::vector<double>>& bytes) {
  FlowJob job{.ports = ports_of(network, bytes.size()), .classes = {}};
  const auto node = static_cast<std::size_t>(network.gpus_per_node);
  for (std::size_t from = 0; from < bytes.size(); ++from) {
    for (std::size_t to = 0; to < bytes[from].size(); ++to) {
      if (from == to || bytes[from][to] <= 0) continue;
      const bool inside = from / node == to / node;
      job.classes.push_back({.out_port = port(from, inside ? kNvlinkOut : kNicOut),
                             .in_port = port(to, inside ? kNvlinkIn : kNicIn),
                             .size = {bytes[from][to]}});
    }
  }
  return job;
}

FlowJob ring_all_reduce_flows(const FlowNetwork& network, Bytes payload) {
  FlowJob job{.ports = ports_of(network, 1), .classes = {}};
  const auto gpus = static_cast<double>(network.gpus), local = static_cast<double>(network.gpus_per_node);
  const double nodes = gpus / local;
  const auto add = [&](PortKind out, PortKind in, Bytes size) {
    if (size.count > 0) job.classes.push_back({port(0, out), port(0, in), size, 1, 1, gpus});
  };
  add(kNvlinkOut, kNvlinkIn, payload * (2 * (local - 1) / local));
  add(kNicOut, kNicIn, payload * (2 / local * (nodes - 1) / nodes));
  return job;
}

}  // namespace msmoe::simulator
