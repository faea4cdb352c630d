// Real processes on this host, one a rank, over TCP.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <limits>
#include <optional>
#include <thread>

#include "core/error.h"
#include "executor/communication/communicators.h"
#include "executor/communication/lone_communicator.h"
#include "executor/communication/mesh.h"
#include "tests/executor/communication_examples.h"
#include "tests/executor/rank_processes.h"

namespace msmoe::executor {
namespace {

using namespace std::chrono_literals;

constexpr std::array kNumRanks = {1, 2, 3, 4, 8};

// A function of a rank and the communicator of all.
using WithWorld = std::function<void(int rank, Communicator& world)>;
RankFunction on_world(int num_ranks, const WithWorld& function, CommunicatorsOptions options = {}) {
  return [=](int rank, Rendezvous& rendezvous) {
    Communicators communicators({.gpus = num_ranks}, rank, rendezvous, options);
    function(rank, communicators.of(GroupKind::kWorld));
  };
}

TEST(Communication, AllGather) {
  for (const int num_ranks : kNumRanks)
    run_ranks(num_ranks, on_world(num_ranks, [=](int rank, Communicator& world) {
                EXPECT_EQ(world.rank(), rank);
                EXPECT_EQ(world.size(), num_ranks);
                for (int round = 0; round < 6; ++round) {
                  Sizes sizes;
                  std::vector<char> expected;
                  for (int from = 0; from < num_ranks; ++from) {
                    sizes.push_back(uneven(from, round));
                    append(expected, bytes_of(from, round, sizes.back()));
                  }
                  const std::vector<char> mine = bytes_of(rank, round, uneven(rank, round));
                  std::vector<char> all(expected.size());
                  world.all_gather(mine.data(), all.data(), sizes);
                  EXPECT_EQ(all, expected) << "round " << round;
                }
              }));
}

TEST(Communication, AllToAll) {
  for (const int num_ranks : kNumRanks)
    run_ranks(num_ranks, on_world(num_ranks, [=](int rank, Communicator& world) {
                for (int round = 0; round < 6; ++round) {
                  const auto size = [&](int from, int to) { return uneven(3 * from + to, round); };
                  Sizes sent, received;
                  std::vector<char> in, expected;
                  for (int other = 0; other < num_ranks; ++other) {
                    sent.push_back(size(rank, other));
                    received.push_back(size(other, rank));
                    append(in, bytes_of(rank, other, sent.back()));
                    append(expected, bytes_of(other, rank, received.back()));
                  }
                  std::vector<char> out(expected.size());
                  world.all_to_all(in.data(), sent, out.data(), received);
                  EXPECT_EQ(out, expected) << "round " << round;
                }
              }));
}

TEST(Communication, ReduceScatterSumsInOrderOfRank) {
  for (const int num_ranks : kNumRanks)
    run_ranks(num_ranks, on_world(num_ranks, [=](int rank, Communicator& world) {
                for (int round = 0; round < 6; ++round) {
                  Sizes counts;
                  for (int to = 0; to < num_ranks; ++to) counts.push_back(uneven(to, round));
                  const std::size_t count = sum_of(counts);
                  const std::size_t first = sum_of(Sizes(counts.begin(), counts.begin() + rank));
                  std::vector<float> out(counts[static_cast<std::size_t>(rank)]);
                  world.reduce_scatter(floats_of(rank, count).data(), out.data(), counts);
                  std::vector<float> expected = sum_in_order_of_rank(num_ranks, count);
                  expected = {expected.begin() + static_cast<std::ptrdiff_t>(first),
                              expected.begin() + static_cast<std::ptrdiff_t>(first + out.size())};
                  EXPECT_TRUE(same_bits(out, expected)) << "round " << round;
                }
              }));
}

TEST(Communication, AllReduceGivesTheSameBitsEverywhere) {
  for (const int num_ranks : kNumRanks)
    run_ranks(num_ranks, on_world(num_ranks, [=](int rank, Communicator& world) {
                for (const std::size_t count : {0, 1, 2, 5, 8, 1000, 100'003}) {
                  std::vector<float> data = floats_of(rank, count);
                  world.all_reduce(data.data(), count, Reduction::kSum);
                  EXPECT_TRUE(same_bits(data, sum_in_order_of_rank(num_ranks, count))) << count;
                }
              }));
}

TEST(Communication, MaximumKeepsWhatIsNotANumber) {
  for (const int num_ranks : kNumRanks)
    run_ranks(num_ranks, on_world(num_ranks, [=](int rank, Communicator& world) {
                for (int special = 0; special < num_ranks; ++special) {
                  const float mine = static_cast<float>(rank);
                  const float nan = std::numeric_limits<float>::quiet_NaN();
                  std::vector<float> data = {mine, -mine, rank == special ? nan : mine, rank == special ? 99 : mine};
                  world.all_reduce(data.data(), data.size(), Reduction::kMaximum);
                  EXPECT_EQ(data[0], static_cast<float>(num_ranks - 1));
                  EXPECT_EQ(data[1], 0);
                  EXPECT_TRUE(std::isnan(data[2])) << special;
                  EXPECT_EQ(data[3], 99);
                }
              }));
}

// All send all that they have before any receives: more than the sockets hold, so that a send that waited for its
// receiver would never end.
TEST(Communication, MessagesArriveInOrderAndSendsDoNotWait) {
  constexpr int kNumMessages = 60;
  for (const int num_ranks : {2, 3, 4, 8})
    run_ranks(num_ranks, on_world(num_ranks, [=](int rank, Communicator& world) {
                const auto size = [](int message) { return message % 5 == 0 ? 0 : 1 << (message % 18); };
                for (int message = 0; message < kNumMessages; ++message)
                  for (int to = 0; to < num_ranks; ++to) {
                    if (to == rank) continue;
                    std::vector<char> bytes = bytes_of(rank + message, to, static_cast<std::size_t>(size(message)));
                    world.send(to, bytes.data(), bytes.size());
                    std::fill(bytes.begin(), bytes.end(), 'x');  // the copy is the communicator's own
                  }
                for (int from = num_ranks - 1; from >= 0; --from)
                  for (int message = 0; message < kNumMessages && from != rank; ++message) {
                    std::vector<char> bytes(static_cast<std::size_t>(size(message)));
                    world.receive(from, bytes.data(), bytes.size());
                    EXPECT_EQ(bytes, bytes_of(from + message, rank, bytes.size())) << message;
                  }
                world.finish_sends();
              }));
}

// Eight ranks, attention groups of two and expert groups of four: one is used after the other, with messages on their
// way meanwhile, and no rank waits for those of other groups.
TEST(Communication, GroupsAreUsedInTurn) {
  const Plan plan{.gpus = 16, .attention_degree = 2, .ep = 4, .pp = 2};
  run_ranks(16, [&](int rank, Rendezvous& rendezvous) {
    Communicators communicators(plan, rank, rendezvous);
    EXPECT_EQ(&communicators.of(GroupKind::kExpert), &communicators.of(GroupKind::kExpertAll));
    EXPECT_EQ(communicators.of(GroupKind::kContext).size(), 1);
    Communicator& pipeline = communicators.of(GroupKind::kPipeline);
    const int other = 1 - pipeline.rank();
    for (int round = 0; round < 20; ++round) {
      const float message = static_cast<float>(100 * round + rank);
      pipeline.send(other, &message, sizeof(message));
      for (const GroupKind kind :
           {GroupKind::kAttention, GroupKind::kExpert, GroupKind::kDenseData, GroupKind::kWorld}) {
        const std::vector<int> members = ranks_of_group(kind, plan, rank);
        EXPECT_EQ(communicators.of(kind).size(), static_cast<int>(members.size()));
        float value = static_cast<float>(rank + round);
        communicators.of(kind).all_reduce(&value, 1, Reduction::kSum);
        EXPECT_EQ(value, static_cast<float>(std::accumulate(members.begin(), members.end(), 0) +
                                            round * static_cast<int>(members.size())));
      }
      float received = 0;
      pipeline.receive(other, &received, sizeof(received));
      EXPECT_EQ(received, static_cast<float>(100 * round + (rank + 8) % 16));
    }
    pipeline.finish_sends();
  });
}

TEST(Communication, AJobOfOneRankHasNoNetwork) {
  Rendezvous rendezvous({});
  Communicators communicators({}, 0, rendezvous);
  for (int kind = 0; kind < kNumGroupKinds; ++kind) EXPECT_EQ(communicators.of(static_cast<GroupKind>(kind)).size(), 1);
}

TEST(Communication, AnAddressThatIsNoneIsRefused) {
  const std::vector<std::string> outcomes = outcomes_of_ranks(2, [](int rank, Rendezvous& rendezvous) {
    Communicators({.gpus = 2}, rank, rendezvous, {.address = "no such host"});
  });
  for (const std::string& outcome : outcomes)
    EXPECT_NE(outcome.find("'no such host' is not an address"), std::string::npos) << outcome;
}

// ---- Ranks that end

// Those that have what they need are not disturbed by others that have left.
TEST(Communication, WhoIsDoneMayLeave) {
  run_ranks(4, [](int rank, Rendezvous& rendezvous) {
    const Plan plan{.gpus = 4, .attention_degree = 2};
    std::optional<Communicators> communicators(std::in_place, plan, rank, rendezvous);
    std::vector<float> data(100'000, 1);
    for (int round = 0; round < (rank < 2 ? 1 : 100); ++round)
      communicators->of(GroupKind::kAttention).all_reduce(data.data(), data.size(), Reduction::kMaximum);
    communicators.reset();
  });
}

TEST(Communication, WhatWasSentArrivesThoughItsSenderLeavesAtOnce) {
  for (int repeat = 0; repeat < 10; ++repeat)
    run_ranks(2, on_world(2, [=](int rank, Communicator& world) {
                std::vector<char> bytes = bytes_of(0, repeat, 3'000'000);
                if (rank == 0) {
                  world.send(1, bytes.data(), bytes.size());
                  world.finish_sends();
                } else {
                  std::vector<char> received(bytes.size());
                  world.receive(0, received.data(), received.size());
                  EXPECT_EQ(received, bytes);
                }
              }));
}

// What each rank says when one is killed: promptly, long before the time-out.
void expect_faults(const std::vector<std::string>& outcomes, int killed, const std::string& text) {
  for (int rank = 0; rank < static_cast<int>(outcomes.size()); ++rank) {
    const std::string& outcome = outcomes[static_cast<std::size_t>(rank)];
    if (rank == killed) {
      EXPECT_EQ(outcome, "ended by signal 9");
    } else {
      EXPECT_NE(outcome.find(text), std::string::npos) << "rank " << rank << ": " << outcome;
    }
  }
}
RankFunction faults_only(const RankFunction& function) {
  return [=](int rank, Rendezvous& rendezvous) {
    try {
      function(rank, rendezvous);
    } catch (const CommunicationFault& fault) {
      throw std::runtime_error(std::string("communication fault: ") + fault.what());
    }
  };
}

TEST(Communication, AKilledRankIsNoticedEverywhere) {
  for (const int num_ranks : {2, 3, 8})
    for (const int killed : {0, num_ranks - 1}) {
      const auto start = std::chrono::steady_clock::now();
      const auto outcomes =
          outcomes_of_ranks(num_ranks, faults_only(on_world(num_ranks, [=](int rank, Communicator& world) {
                              std::vector<float> data(200'000);
                              for (int round = 0; round < 1'000'000; ++round) {
                                if (rank == killed && round == 5) {
                                  std::thread([] {
                                    std::this_thread::sleep_for(10ms);
                                    ::kill(::getpid(), SIGKILL);
                                  }).detach();
                                }
                                world.all_reduce(data.data(), data.size(), Reduction::kSum);
                              }
                            })));
      expect_faults(outcomes, killed, "communication fault: rank ");
      EXPECT_LT(std::chrono::steady_clock::now() - start, 15s);
    }
}

// The one that waits for it names it, as does the one that waits for that one.
TEST(Communication, AMessageThatBreaksOffIsNoticed) {
  constexpr std::size_t kBytes = std::size_t{1} << 28;
  const auto start = std::chrono::steady_clock::now();
  const auto outcomes = outcomes_of_ranks(3, faults_only(on_world(3, [](int rank, Communicator& world) {
                                            std::vector<char> bytes(kBytes);
                                            if (rank == 0) {
                                              world.send(1, bytes.data(), bytes.size());
                                              std::this_thread::sleep_for(20ms);
                                              ::kill(::getpid(), SIGKILL);
                                            } else if (rank == 1) {
                                              world.receive(0, bytes.data(), bytes.size());
                                            } else {
                                              world.receive(1, bytes.data(), 1);
                                            }
                                          })));
  expect_faults(outcomes, 0, "communication fault: rank 0 closed its connection: receive on rank ");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 15s);
}

// Bytes that wait to be written when their receiver dies.
TEST(Communication, ASendToAKilledRankFails) {
  const auto start = std::chrono::steady_clock::now();
  const auto outcomes = outcomes_of_ranks(2, faults_only(on_world(2, [](int rank, Communicator& world) {
                                            std::vector<char> bytes(std::size_t{1} << 28);
                                            if (rank == 0) {
                                              world.send(1, bytes.data(), bytes.size());
                                              world.finish_sends();
                                            } else {
                                              std::thread([] {
                                                std::this_thread::sleep_for(20ms);
                                                ::kill(::getpid(), SIGKILL);
                                              }).detach();
                                              world.receive(0, bytes.data(), bytes.size());
                                              std::this_thread::sleep_for(10s);
                                            }
                                          })));
  expect_faults(outcomes, 1, "communication fault: rank 1 closed its connection: send on rank 0");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 15s);
}

TEST(Communication, ARankThatDoesNotComeIsNamed) {
  const auto outcomes = outcomes_of_ranks(3, faults_only(on_world(3,
                                                                  [](int rank, Communicator& world) {
                                                                    if (rank == 2) std::this_thread::sleep_for(3s);
                                                                    float value = 1;
                                                                    world.all_reduce(&value, 1, Reduction::kSum);
                                                                  },
                                                                  {.timeout = 500ms})));
  int num_named = 0;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    EXPECT_TRUE(outcomes[rank].starts_with("communication fault: ")) << outcomes[rank];
    num_named += outcomes[rank].find("rank 2 did not answer within 0.5 s: all_reduce on rank") != std::string::npos;
  }
  EXPECT_GE(num_named, 1) << outcomes[0] << "\n" << outcomes[1];  // the other may have seen this one give up
  EXPECT_NE(outcomes[2].find("closed its connection: all_reduce on rank 2"), std::string::npos) << outcomes[2];
}

}  // namespace
}  // namespace msmoe::executor
