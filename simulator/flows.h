// Flows: what a collective takes when each of its messages shares the ports it goes through.
//
//   Port   one direction of one GPU's NVLink, or of its part of the network cards.
//   Flow   bytes from one GPU to another: out of a port and into a port, of NVLink inside a node, of NICs between
//   nodes.
//
// All flows start at once. At any time their rates are max-min fair (Bertsekas & Gallager, Data Networks, section
// 6.5.2): all rise together until a port is full, its flows stop there, and the rest rise on; when a flow ends, rates
// are found anew.
//
// Flows that are alike have the same rate at all times, so they are one class. That is exact where a class meets the
// same number of flows of every other class at each of its ports: then filling treats them all the same at every event.
// Latencies are not in it; the cost model adds them.
#pragma once

#include <cstdint>
#include <vector>

#include "core/cluster.h"
#include "core/group.h"
#include "core/program.h"
#include "core/units.h"

namespace msmoe::simulator {

// GPUs in nodes of equal size, and what a collective reaches of each GPU's ports, per direction.
struct FlowNetwork {
  std::int64_t gpus = 1, gpus_per_node = 1;
  BytesPerSecond nvlink, nic;
};
// The group's share of a cluster, with the cost model's fractions of bandwidth for this collective.
FlowNetwork flow_network(const Cluster& cluster, const Group& group, Collective collective);

struct FlowClass {
  std::int32_t out_port = 0, in_port = 0;    // indices in FlowJob::ports
  Bytes size;                                // of each flow
  double per_out_port = 1, per_in_port = 1;  // flows of this class at each of those ports
  double count = 1;                          // of all ports: how many flows there are
};

struct FlowJob {
  std::vector<BytesPerSecond> ports;  // the capacity of each kind of port
  std::vector<FlowClass> classes;
};

struct FlowResult {
  Duration makespan{};
  std::vector<Duration> ends;   // by class
  std::vector<double> carried;  // bytes that went through each port of a kind
  std::int64_t rate_changes = 0;
};
// REQUIRES: indices in range, capacities above 0, counts of 1 or more.
FlowResult run_flows(const FlowJob& job);

// Every GPU sends each GPU `payload` / gpus times a load: that of the destination (tokens to their experts), or of the
// source (back from them). loads: one of each GPU; their mean is 1 where `payload` is what a GPU sends.
enum class LoadedEnd : std::uint8_t { kDestination, kSource };
FlowJob all_to_all_flows(const FlowNetwork& network, Bytes payload, const std::vector<double>& loads,
                         LoadedEnd loaded = LoadedEnd::kDestination);
// Any volumes, bytes[from][to]: each flow is a class of its own.
FlowJob all_to_all_flows(const FlowNetwork& network, const std::vector<std::vector<double>>& bytes);

// Rings in two tiers: reduce-scatter in the node, all-reduce of each part between the nodes, all-gather in the node,
// cut into pieces that follow each other, so that both tiers are busy at once (arXiv 2505.11432, appendix A.1). A GPU
// of nodes of r sends its neighbour 2 S (r-1)/r over NVLink and its peer in the next of N nodes 2 S/r (N-1)/N over
// NICs.
FlowJob ring_all_reduce_flows(const FlowNetwork& network, Bytes payload);

}  // namespace msmoe::simulator
