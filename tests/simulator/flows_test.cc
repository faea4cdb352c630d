// Classes of flows against closed forms, against most loaded ports, and against a simulation of every single flow.
#include "simulator/flows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "simulator/cost_model.h"

namespace msmoe::simulator {
namespace {

constexpr FlowNetwork kNetwork{.gpus = 32, .gpus_per_node = 8, .nvlink = {400e9}, .nic = {50e9}};

using Matrix = std::vector<std::vector<double>>;

// The same question without classes and with nothing of flows.cc: each flow a row of its own, a small step at a time.
double brute_force_seconds(const FlowNetwork& network, const Matrix& bytes) {
  struct Single {
    std::size_t out, in;
    double left, rate = 0;
    bool rises = false;
  };
  const std::size_t gpus = bytes.size(), node = static_cast<std::size_t>(network.gpus_per_node);
  std::vector<Single> flows;
  for (std::size_t from = 0; from < gpus; ++from)
    for (std::size_t to = 0; to < gpus; ++to)
      if (from != to && bytes[from][to] > 0) {
        const std::size_t wire = from / node == to / node ? 0 : 2 * gpus;
        flows.push_back({wire + from, wire + gpus + to, bytes[from][to]});
      }
  double now = 0;
  while (!flows.empty()) {
    std::vector<double> spare(4 * gpus, network.nvlink.count);
    std::fill(spare.begin() + static_cast<std::ptrdiff_t>(2 * gpus), spare.end(), network.nic.count);
    for (Single& flow : flows) flow.rises = true;
    // The tightest port first: its flows share what is left of it (the definition by bottlenecks).
    for (;;) {
      std::vector<int> users(4 * gpus, 0);
      for (const Single& flow : flows)
        if (flow.rises) ++users[flow.out], ++users[flow.in];
      double fair = std::numeric_limits<double>::infinity();
      std::size_t tightest = 0;
      for (std::size_t port = 0; port < users.size(); ++port)
        if (users[port] > 0 && spare[port] / users[port] < fair) {
          fair = spare[port] / users[port];
          tightest = port;
        }
      if (std::isinf(fair)) break;
      for (Single& flow : flows) {
        if (!flow.rises || (flow.out != tightest && flow.in != tightest)) continue;
        flow.rises = false;
        flow.rate = fair;
        spare[flow.out] -= fair;
        spare[flow.in] -= fair;
      }
    }
    double step = std::numeric_limits<double>::infinity();
    for (const Single& flow : flows) step = std::min(step, flow.left / flow.rate);
    now += step;
    for (Single& flow : flows) flow.left -= flow.rate * step;
    std::erase_if(flows, [](const Single& flow) { return flow.left < 1e-3; });  // of a byte, of many thousands
  }
  return now;
}

Matrix volumes(const std::vector<double>& loads, double payload, LoadedEnd loaded) {
  const std::size_t gpus = loads.size();
  Matrix bytes(gpus, std::vector<double>(gpus));
  for (std::size_t from = 0; from < gpus; ++from)
    for (std::size_t to = 0; to < gpus; ++to)
      bytes[from][to] = payload / static_cast<double>(gpus) * loads[loaded == LoadedEnd::kDestination ? to : from];
  return bytes;
}

double most_loaded_port_seconds(const FlowNetwork& network, const Matrix& bytes) {
  const std::size_t gpus = bytes.size(), node = static_cast<std::size_t>(network.gpus_per_node);
  double longest = 0;
  for (std::size_t gpu = 0; gpu < gpus; ++gpu) {
    double out[2] = {}, in[2] = {};
    for (std::size_t other = 0; other < gpus; ++other) {
      if (other == gpu) continue;
      const int wire = other / node == gpu / node ? 0 : 1;
      out[wire] += bytes[gpu][other];
      in[wire] += bytes[other][gpu];
    }
    longest = std::max(
        {longest, std::max(out[0], in[0]) / network.nvlink.count, std::max(out[1], in[1]) / network.nic.count});
  }
  return longest;
}

// ---- Closed forms

// What the cost model takes for these bytes beyond what it takes for none: flows have no latencies.
double cost_model_seconds(const Cluster& cluster, const Plan& plan, Collective collective, GroupKind kind,
                          Bytes payload) {
  const CostModel costs(cluster, plan);
  Operator op{.sms = plan.communication_sms};
  op.transfer = {collective, kind, payload};
  const double whole = to_seconds(costs.cost(op).transfer);
  op.transfer.payload = {};
  return whole - to_seconds(costs.cost(op).transfer);
}

TEST(Flows, OfEqualVolumesTakeWhatTheCostModelSays) {
  Cluster cluster = find_cluster("h800");
  cluster.collectives.clear();  // measured tables
  Plan plan;
  for (const std::int64_t size : {8, 16, 64, 256}) {
    plan.ep = size;
    plan.gpus = size;
    const Group expert = group_of(GroupKind::kExpert, plan, cluster.gpus_per_node);
    const std::vector<double> even(static_cast<std::size_t>(size), 1.0);
    const Bytes payload{512e6};
    const FlowJob exchange = all_to_all_flows(flow_network(cluster, expert, Collective::kAllToAll), payload, even);
    const double exchange_seconds =
        cost_model_seconds(cluster, plan, Collective::kAllToAll, GroupKind::kExpert, payload);
    EXPECT_NEAR(to_seconds(run_flows(exchange).makespan) / exchange_seconds, 1, 1e-6) << size;

    const Group world = group_of(GroupKind::kWorld, plan, cluster.gpus_per_node);
    const FlowJob reduce = ring_all_reduce_flows(flow_network(cluster, world, Collective::kAllReduce), payload);
    const double reduce_seconds = cost_model_seconds(cluster, plan, Collective::kAllReduce, GroupKind::kWorld, payload);
    EXPECT_NEAR(to_seconds(run_flows(reduce).makespan) / reduce_seconds, 1, 1e-6) << size;
  }
}

TEST(Flows, OfAThousandRanksAreTwoClasses) {
  const FlowNetwork network{.gpus = 1024, .gpus_per_node = 8, .nvlink = {400e9}, .nic = {50e9}};
  const FlowJob job = all_to_all_flows(network, {1024e6}, std::vector<double>(1024, 1.0));
  ASSERT_EQ(job.classes.size(), 2u);
  EXPECT_EQ(job.classes[0].count + job.classes[1].count, 1024.0 * 1023);
  // 1,016 MB out of each NIC.
  EXPECT_NEAR(to_seconds(run_flows(job).makespan), 1016e6 / 50e9, 1e-9);
}

// ---- Skew

// EP32, 256 experts top-8, hidden 7168: balanced over hosts and skewed inside each halves the speed of dispatch.
// https://github.com/deepseek-ai/DeepEP/issues/343
TEST(Flows, ASkewOfTwoInsideEachHostDoublesTheExchange) {
  std::vector<double> loads(32);
  for (std::size_t gpu = 0; gpu < loads.size(); ++gpu) loads[gpu] = gpu % 2 == 0 ? 2 : 0;
  const std::vector<double> even(32, 1.0);
  const Bytes payload{4096.0 * 8 * 7168 * 2};
  for (const LoadedEnd loaded : {LoadedEnd::kDestination, LoadedEnd::kSource}) {
    const double balanced = to_seconds(run_flows(all_to_all_flows(kNetwork, payload, even, loaded)).makespan);
    const double skewed = to_seconds(run_flows(all_to_all_flows(kNetwork, payload, loads, loaded)).makespan);
    EXPECT_NEAR(skewed / balanced, 2, 1e-6);
  }
}

// Every GPU sends as many flows as any other, so a hot GPU's port is full from the first byte to the last.
TEST(Flows, ASkewedExchangeTakesAsLongAsItsMostLoadedPort) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 30; ++round) {
    std::vector<double> loads;
    for (int gpu = 0; gpu < 32; ++gpu) loads.push_back(static_cast<double>(random() % 5) / 2);
    for (const LoadedEnd loaded : {LoadedEnd::kDestination, LoadedEnd::kSource}) {
      const double longest = most_loaded_port_seconds(kNetwork, volumes(loads, 64e6, loaded));
      EXPECT_NEAR(to_seconds(run_flows(all_to_all_flows(kNetwork, {64e6}, loads, loaded)).makespan) / longest, 1, 1e-6);
    }
  }
}

TEST(Flows, OfClassesEqualThoseOneByOne) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 20; ++round) {
    const FlowNetwork network{
        .gpus = 12, .gpus_per_node = 4, .nvlink = {200e9}, .nic = {round % 2 == 0 ? 25e9 : 190e9}};
    std::vector<double> loads;
    for (int gpu = 0; gpu < 12; ++gpu) loads.push_back(static_cast<double>(random() % 4) / 2 + 0.25);
    for (const LoadedEnd loaded : {LoadedEnd::kDestination, LoadedEnd::kSource}) {
      const Matrix bytes = volumes(loads, 24e6, loaded);
      const double one_by_one = brute_force_seconds(network, bytes);
      EXPECT_NEAR(to_seconds(run_flows(all_to_all_flows(network, {24e6}, loads, loaded)).makespan) / one_by_one, 1,
                  1e-6);
      EXPECT_NEAR(to_seconds(run_flows(all_to_all_flows(network, bytes)).makespan) / one_by_one, 1, 1e-6);
    }
  }
}

TEST(Flows, OfAnyVolumesEqualThoseOneByOne) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 20; ++round) {
    const FlowNetwork network{.gpus = 8, .gpus_per_node = 4, .nvlink = {100e9}, .nic = {50e9}};
    Matrix bytes(8, std::vector<double>(8));
    for (std::vector<double>& row : bytes)
      for (double& volume : row) volume = static_cast<double>(random() % 1000) * 1e3;
    const double makespan = to_seconds(run_flows(all_to_all_flows(network, bytes)).makespan);
    EXPECT_NEAR(makespan / brute_force_seconds(network, bytes), 1, 1e-6);
    EXPECT_GE(makespan * (1 + 1e-9), most_loaded_port_seconds(network, bytes));
  }
}

// What goes in comes out, and no port carries more than its capacity allows.
TEST(Flows, ConserveBytes) {
  std::mt19937_64 random(6);
  for (int round = 0; round < 20; ++round) {
    std::vector<double> loads;
    for (int gpu = 0; gpu < 32; ++gpu) loads.push_back(static_cast<double>(random() % 7));
    const FlowJob job = all_to_all_flows(kNetwork, {32e6}, loads);
    const FlowResult result = run_flows(job);
    std::vector<double> expected(job.ports.size());
    double total = 0, sent = 0;
    for (const FlowClass& flows : job.classes) {
      expected[static_cast<std::size_t>(flows.out_port)] += flows.size.count * flows.per_out_port;
      expected[static_cast<std::size_t>(flows.in_port)] += flows.size.count * flows.per_in_port;
      total += flows.size.count * flows.count;
    }
    for (std::size_t from = 0; from < 32; ++from)
      for (std::size_t to = 0; to < 32; ++to) sent += from == to ? 0 : 32e6 / 32 * loads[to];
    EXPECT_NEAR(total / sent, 1, 1e-9);
    for (std::size_t port = 0; port < job.ports.size(); ++port) {
      EXPECT_NEAR(result.carried[port], expected[port], 1e-6 * expected[port] + 1e-9);
      EXPECT_LE(result.carried[port], job.ports[port].count * to_seconds(result.makespan) * (1 + 1e-9));
    }
    for (const Duration end : result.ends) EXPECT_LE(end, result.makespan);
  }
}

TEST(Flows, OfNothingTakeNoTime) {
  EXPECT_EQ(run_flows({}).makespan, Duration{});
  const FlowNetwork one{.gpus = 1, .gpus_per_node = 1, .nvlink = {1}, .nic = {1}};
  EXPECT_EQ(run_flows(all_to_all_flows(one, {1e6}, {1.0})).makespan, Duration{});
  EXPECT_EQ(run_flows(ring_all_reduce_flows(one, {1e6})).makespan, Duration{});
}

}  // namespace
}  // namespace msmoe::simulator
