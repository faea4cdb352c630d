#include "core/cluster.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "core/data_files.h"
#include "core/error.h"
#include "core/text_file.h"
#include "core/units_text.h"

namespace msmoe {
namespace {

using namespace std::chrono_literals;

// A whole description with `extra` members put in; `nic` is the line of that name.
std::string description(const std::string& extra = "", const std::string& nic = R"("nic": "400 Gb/s",)") {
  return R"({"gpu": {"name": "H800", "bf16_peak": "989 TFLOPS", "memory": "79.1 GiB", "hbm": "3.35 TB/s", "sms": 132},
             "gpus_per_node": 8, "nvlink": "200 GB/s", "nvlink_latency": "0.6 us", "nics_per_node": 4, )" +
         nic + extra + R"("network_latency": "2.7 us", "pcie": "64 GB/s", "reserved_memory": "0.8 GiB"})";
}

std::string complaint(const std::string& text) {
  try {
    parse_cluster("mine.json", text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Cluster, ReadsADescription) {
  const Cluster cluster = parse_cluster("folder/mine.json", description());
  EXPECT_EQ(cluster.name, "mine");
  EXPECT_EQ(cluster.gpu.name, "H800");
  EXPECT_EQ(cluster.gpu.bf16_peak.count, 989e12);
  EXPECT_EQ(cluster.gpu.fp8_peak.count, 0);
  EXPECT_EQ(cluster.gpu.memory.count, 79.1 * kGiB);
  EXPECT_EQ(cluster.gpu.hbm.count, 3.35e12);
  EXPECT_EQ(cluster.gpu.sms, 132);
  EXPECT_EQ(cluster.nvlink.count, 200e9);
  EXPECT_EQ(cluster.nvlink_latency, 600ns);
  EXPECT_EQ(cluster.network_latency, 2700ns);
  EXPECT_EQ(cluster.oversubscription, 1);
  EXPECT_EQ(cluster.pcie.count, 64e9);
  EXPECT_EQ(cluster.host_memory_per_node.count, 0);
  EXPECT_FALSE(cluster.price_per_gpu_hour);
  EXPECT_FALSE(cluster.failures_per_gpu_day);
  EXPECT_TRUE(cluster.collectives.empty());
  // 4 NICs of 400 Gb/s = 200 GB/s for 8 GPUs.
  EXPECT_EQ(cluster.nic_per_gpu().count, 25e9);
}

TEST(Cluster, FailuresAndPower) {
  const Cluster silent = parse_cluster("mine.json", description());
  EXPECT_FALSE(silent.restart_time);
  EXPECT_EQ(silent.checkpoint_bandwidth.count, 0);
  EXPECT_EQ(silent.checkpoint_interval, 0s);
  EXPECT_EQ(silent.node_overhead_watts, 0);
  EXPECT_EQ(silent.pue, 1);
  const Cluster cluster = parse_cluster(
      "mine.json",
      description(R"("restart_time": "10 min", "checkpoint_bandwidth": "1 GB/s", "checkpoint_interval": "1 h",
                     "node_overhead_watts": 4600, "pue": 1.1, )"));
  EXPECT_EQ(cluster.restart_time, 10min);
  EXPECT_EQ(cluster.checkpoint_bandwidth.count, 1e9);
  EXPECT_EQ(cluster.checkpoint_interval, 1h);
  EXPECT_EQ(cluster.node_overhead_watts, 4600);
  EXPECT_EQ(cluster.pue, 1.1);
  EXPECT_EQ(complaint(description(R"("pue": 0.9, )")), "mine.json: pue: 0.9 is out of range; 1 to 10 is allowed");
  EXPECT_NE(complaint(description(R"("restart_time": 10, )")).find("restart_time"), std::string::npos);
}

// Every cluster that ships states what goodput needs, so that no answer leaves failures out.
TEST(Cluster, ShippedOnesStateFailures) {
  for (const std::string& name : shipped_names("clusters")) {
    const Cluster cluster = find_cluster(name);
    EXPECT_TRUE(cluster.failures_per_gpu_day && cluster.restart_time) << name;
    EXPECT_GT(cluster.checkpoint_bandwidth.count, 0) << name;
  }
}

TEST(Cluster, RefusesBadDescriptions) {
  EXPECT_EQ(complaint(description()), "");
  EXPECT_EQ(complaint(description(R"("oversubscripton": 2, )")),
            "mine.json: oversubscripton: unknown key; did you mean \"oversubscription\"?");
  EXPECT_EQ(complaint(description("", "")), "mine.json: nic: missing, but required");
  EXPECT_EQ(complaint(description("", R"("nik": "400 Gb/s", )")),
            "mine.json: nic: missing, but required; \"nik\" is there: is it meant?");
  EXPECT_EQ(complaint(description("", R"("nic": 400, )")),
            "mine.json: nic: \"400\" has no unit; append one, as in \"400 GB/s\"");
  EXPECT_EQ(complaint(description(R"("oversubscription": 0.5, )")),
            "mine.json: oversubscription: 0.5 is out of range; 1 to 1000 is allowed");
  EXPECT_EQ(complaint(description(R"("price_per_gpu_hour": -1, )")),
            "mine.json: price_per_gpu_hour: -1 is out of range; 0 to 10000 is allowed");
  EXPECT_EQ(complaint(description(R"("collectives": [{"collective": "all_redcue"}], )")),
            "mine.json: collectives[0].collective: \"all_redcue\" is unknown; known are all_gather, reduce_scatter, "
            "all_to_all, all_reduce");
  EXPECT_EQ(complaint(description(
                R"("collectives": [{"collective": "all_reduce", "ranks": 8, "ranks_per_node": 9, "source": ""}], )")),
            "mine.json: collectives[0].ranks_per_node: 9 is out of range; 1 to 8 is allowed");
  EXPECT_EQ(complaint(description(
                R"("collectives": [{"collective": "all_reduce", "ranks": 8, "ranks_per_node": 8, "source": ""}], )")),
            "mine.json: collectives[0].nccl_tests: a table is needed; give either nccl_tests (its text) or table_file "
            "(its path)");
}

// A device states one peak at least; what it leaves out it does not have.
TEST(Cluster, PeaksOfDevicesWithoutTensorCores) {
  const std::string bf16 = R"("bf16_peak": "989 TFLOPS",)";
  const auto with_peaks = [&](const std::string& peaks) {
    std::string text = description();
    return text.replace(text.find(bf16), bf16.size(), peaks);
  };
  const Gpu core = parse_cluster("mine.json", with_peaks(R"("fp32_peak": "78.4 GFLOPS",)")).gpu;
  EXPECT_EQ(core.fp32_peak.count, 78.4e9);
  EXPECT_EQ(core.bf16_peak.count, 0);
  const Gpu both = parse_cluster("mine.json", with_peaks(bf16 + R"("fp32_peak": "67 TFLOPS",)")).gpu;
  EXPECT_EQ(both.fp32_peak.count, 67e12);
  EXPECT_EQ(both.bf16_peak.count, 989e12);
  EXPECT_EQ(parse_cluster("mine.json", description()).gpu.fp32_peak.count, 0);
  EXPECT_EQ(complaint(with_peaks("")), "mine.json: gpu.bf16_peak: missing, but required");
}

TEST(Cluster, MemoryOfCommunicators) {
  EXPECT_EQ(parse_cluster("mine.json", description()).communicator_memory, Bytes{240 * kMiB});
  EXPECT_EQ(parse_cluster("mine.json", description(R"("communicator_memory": "4 MiB", )")).communicator_memory,
            Bytes{4 * kMiB});
}

TEST(Cluster, OneCoreIsADevice) {
  const Cluster cpu = find_cluster("cpu");
  EXPECT_TRUE(cpu.gpu.is_cpu_core());
  EXPECT_FALSE(find_cluster("h100").gpu.is_cpu_core());
  EXPECT_GT(cpu.gpu.fp32_peak.count, 0);
  EXPECT_EQ(cpu.gpu.bf16_peak.count, 0);
  for (const Fit* fit : cpu.fits) EXPECT_EQ(fit->gpu, "AMD EPYC core, Zen 3") << fit->of;
}

TEST(Cluster, ReservedMemoryMustLeaveSome) {
  std::string text = description();
  text.replace(text.find("0.8 GiB"), 7, "80 GiB");
  EXPECT_EQ(complaint(text), "mine.json: reserved_memory: 80.0 GiB leaves no memory; the GPU has 79.1 GiB");
}

TEST(Cluster, TablesMayStandInTheFile) {
  const Cluster cluster = parse_cluster(
      "mine.json", description(R"("collectives": [{"collective": "all_to_all", "ranks": 16, "ranks_per_node": 8,
        "source": "ours", "nccl_tests": "# size count type redop root time\n1024 16 float none -1 25.5 0.04 0.04 0\n"}], )"));
  ASSERT_EQ(cluster.collectives.size(), 1u);
  EXPECT_EQ(cluster.collectives[0].ranks, 16);
  ASSERT_EQ(cluster.collectives[0].points.size(), 1u);
  EXPECT_EQ(cluster.collectives[0].points[0].time, 25500ns);
}

// ---- What ships.

TEST(Cluster, EveryDescriptionThatShipsReadsAndNamesItsSources) {
  const std::vector<std::string> names = shipped_names("clusters");
  for (const char* name : {"gh200", "h100", "h100-4nic", "h20", "h20-4nic", "h200", "h200-4nic", "h800", "h800-4nic"})
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  for (const std::string& name : names) {
    const Cluster cluster = find_cluster(name);
    EXPECT_EQ(cluster.name, name);
    EXPECT_FALSE(cluster.source.empty()) << name;
    EXPECT_GT(cluster.reserved_memory.count, 0) << name;
    if (name.ends_with("-4nic")) {
      // Half the NICs, and nothing else.
      const Cluster full = find_cluster(name.substr(0, name.size() - 5));
      EXPECT_EQ(cluster.nic_per_gpu() * 2, full.nic_per_gpu()) << name;
      EXPECT_EQ(cluster.gpu.memory, full.gpu.memory) << name;
      EXPECT_EQ(cluster.nvlink, full.nvlink) << name;
    }
  }
}

// arXiv 2505.11432, table 4, and appendix A.1: NVLink there is the sum of both directions, 400 GB/s and 900 GB/s.
TEST(Cluster, FiguresOfTheMegascalePaper) {
  const Cluster h800 = find_cluster("h800");
  EXPECT_EQ(h800.gpu.bf16_peak.count, 989e12);
  EXPECT_EQ(h800.nvlink.count, 400e9 / 2);
  EXPECT_EQ(h800.nic_per_gpu().count, 50e9);
  const Cluster h20 = find_cluster("h20");
  EXPECT_EQ(h20.gpu.bf16_peak.count, 148e12);
  EXPECT_EQ(h20.nvlink.count, 900e9 / 2);
  EXPECT_EQ(h20.gpu.hbm.count, 4e12);
  EXPECT_EQ(h20.gpu.sms, 78);
}

// 419 interruptions / (54 days * 16,384 GPUs) = 4.736e-4 (arXiv 2407.21783): one every 3.1 hours.
TEST(Cluster, FailureRateIsThatOfLlama3) {
  EXPECT_NEAR(find_cluster("h100").failures_per_gpu_day.value(), 419.0 / (54 * 16384), 1e-6);
}

// Bus bandwidth of an all-reduce is 2 (n - 1) / n * size / time: 1.75 * 1 GiB / 4029 us = 466 GB/s.
TEST(Cluster, MeasuredAllReduceOfH100) {
  const Cluster h100 = find_cluster("h100");
  ASSERT_EQ(h100.collectives.size(), 5u);  // and all-to-alls
  const CollectiveTable& table = h100.collectives[0];
  EXPECT_EQ(table.collective, "all_reduce");
  ASSERT_EQ(table.points.size(), 11u);
  const CollectivePoint& point = table.points[8];
  EXPECT_EQ(point.size.count, kGiB);
  EXPECT_EQ(point.time, 4029us);
  EXPECT_NEAR(1.75 * point.size.count / to_seconds(point.time), 466e9, 1e9);
}

// ---- Tables of nccl-tests.

TEST(NcclTestsTable, ReadsWhatTheProgramPrints) {
  const std::vector<CollectivePoint> points =
      parse_nccl_tests_table("t", R"(# nThread 1 nGpus 8 minBytes 0 maxBytes 8192
# Using devices
#  Rank  0 Group  0 Pid  1234 on   host device  0 [0x1b] NVIDIA H100
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
           0             0     float     sum      -1     0.31    0.00    0.00      0     0.30    0.00    0.00      0
host:1234:1240 [0] NCCL INFO Connected all rings
        4096          1024     float     sum      -1    17.90    0.23    0.40      0    99.99    0.23    0.40      0
        8192          2048     float     sum      -1   1112.0    0.01    0.01    N/A    99.99    0.01    0.01    N/A
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 0.2
)");
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(points[0].size.count, 4096);
  EXPECT_EQ(points[0].time, 17900ns);
  EXPECT_EQ(points[1].time, 1112us);
}

TEST(NcclTestsTable, HeaderSaysWhereTheTimeStands) {
  const std::vector<CollectivePoint> points = parse_nccl_tests_table(
      "t", "#  size  count  type  time  algbw  busbw  error\n 64  16  float  25.5  0.1  0.1  0\n");
  ASSERT_EQ(points.size(), 1u);
  EXPECT_EQ(points[0].time, 25500ns);
}

TEST(NcclTestsTable, RefusesWithTheLine) {
  const auto complain = [](const std::string& text) -> std::string {
    try {
      parse_nccl_tests_table("t.txt", text);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(complain("# only a comment\n"),
            "t.txt: no row of measurements; the output of an nccl-tests program is expected");
  EXPECT_EQ(complain("64 16 float sum -1 20\n32 8 float sum -1 19\n"),
            "t.txt: line 2: size 32 does not increase; a row of nccl-tests is expected");
  EXPECT_EQ(complain("64 16 float sum -1 0\n"),
            "t.txt: line 1: 0 is no time in microseconds; a row of nccl-tests is expected");
  EXPECT_EQ(complain("64 16 float\n"),
            "t.txt: line 1: 3 columns, but the time is in column 6; a row of nccl-tests is expected");
  EXPECT_EQ(complain("64 16 float sum -1 fast\n"), "t.txt: line 1: \"fast\" is not a number; begin with a number");
}

// ---- Finding files.

TEST(DataFiles, AFileIsTakenAsItIs) {
  const std::string path = ::testing::TempDir() + "msmoe_cluster_of_mine.json";
  write_text_file(path, description());
  EXPECT_EQ(find_data_file("clusters", path), path);
  EXPECT_EQ(find_cluster(path).gpu.name, "H800");
  std::filesystem::remove(path);
}

TEST(DataFiles, TheChosenFolderComesFirst) {
  const std::filesystem::path folder = ::testing::TempDir() + "msmoe_data";
  std::filesystem::create_directories(folder / "clusters");
  write_text_file((folder / "clusters" / "h800.json").string(), description());
  ::setenv("MSMOE_DATA_DIR", folder.c_str(), 1);
  EXPECT_EQ(find_data_file("clusters", "h800"), (folder / "clusters" / "h800.json").string());
  EXPECT_NE(find_data_file("clusters", "h100"), "");  // the rest is still found
  ::unsetenv("MSMOE_DATA_DIR");
  std::filesystem::remove_all(folder);
}

TEST(DataFiles, UnknownNamesAreRefusedWithTheNearest) {
  try {
    find_data_file("clusters", "h8000");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()).substr(0, 64),
              "h8000: no such file, and no name in clusters/; did you mean \"h80");
  }
  EXPECT_THROW(find_data_file("clusters", ""), UserError);
  EXPECT_THROW(find_data_file("clusters", "../clusters/h100"), UserError);
  EXPECT_THROW(find_data_file("clusters", "/"), UserError);
}

}  // namespace
}  // namespace msmoe
