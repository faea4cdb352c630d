// Real processes and sockets on this host: forked, one a rank, each of which tells what it saw over a pipe.
#include "executor/launch/rendezvous.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <random>
#include <set>

#include "core/error.h"
#include "tests/executor/pipe_ends.h"

namespace msmoe::executor {
namespace {

using namespace std::chrono_literals;

class Job {
 public:
  explicit Job(int num_ranks, std::chrono::milliseconds timeout = 20s)
      : listener_(listen_on("127.0.0.1", 0)), port_(port_of(listener_.value())) {
    options_ = {
        .num_ranks = num_ranks, .port = port_, .job = "a job", .must_agree = {{"plan", "p"}}, .timeout = timeout};
  }
  ~Job() {
    for (const auto& [rank, process] : processes_) {
      ::kill(process, SIGKILL);
      ::waitpid(process, nullptr, 0);
    }
  }

  RendezvousOptions& options() { return options_; }
  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // act(options, say) in a process of its own; what it throws is said. Then the process ends, without farewell.
  using Say = std::function<void(const std::string&)>;
  using Act = std::function<void(const RendezvousOptions&, const Say&)>;
  void start(int rank, const Act& act) {
    const pid_t process = ::fork();
    if (process != 0) {
      processes_[rank] = process;
      if (rank == 0) listener_.close();
      return;
    }
    lines_.close_read();
    const Say say = [&](const std::string& text) {
      const std::string line = std::to_string(rank) + ": " + text + "\n";
      [[maybe_unused]] const auto written = ::write(lines_.write_end(), line.data(), line.size());
    };
    try {
      RendezvousOptions options = options_;
      options.rank = rank;
      if (rank == 0) options.listener = listener_.release();
      listener_.close();
      act(options, say);
    } catch (const UserError& error) {
      say(std::string("user error: ") + error.what());
    } catch (const std::exception& error) {
      say(error.what());
    }
    ::_exit(0);
  }
  void start_all(const Act& act) {
    for (int rank = 0; rank < options_.num_ranks; ++rank) start(rank, act);
  }
  void kill(int rank) { ::kill(processes_.at(rank), SIGKILL); }

  // So many lines, in any order.
  std::set<std::string> read(int count) {
    std::set<std::string> lines;
    for (int line = 0; line < count; ++line) lines.insert(lines_.read_line());
    return lines;
  }
  // All lines until all processes have ended.
  std::set<std::string> read_to_end() {
    lines_.close_write();
    std::set<std::string> lines;
    for (std::string line = lines_.read_line(); !line.empty(); line = lines_.read_line()) lines.insert(line);
    return lines;
  }

 private:
  Descriptor listener_;
  int port_;
  RendezvousOptions options_;
  PipeEnds lines_;
  std::map<int, pid_t> processes_;
};

// "0: text", "1: text", ... of these ranks.
std::set<std::string> each(std::initializer_list<int> ranks, const std::string& text) {
  std::set<std::string> lines;
  for (const int rank : ranks) lines.insert(std::to_string(rank) + ": " + text);
  return lines;
}

void exchange_and_leave(const RendezvousOptions& options, const Job::Say& say) {
  Rendezvous rendezvous(options, [&](int rank) { say("unexpected loss of " + std::to_string(rank)); });
  for (int round = 0; round < 20; ++round) {
    const std::string mine =
        std::string(static_cast<std::size_t>(options.rank * round), 'x') + std::to_string(options.rank);
    const std::vector<std::string> all = rendezvous.exchange(mine);
    for (int rank = 0; rank < options.num_ranks; ++rank)
      if (all.at(static_cast<std::size_t>(rank)) !=
          std::string(static_cast<std::size_t>(rank * round), 'x') + std::to_string(rank))
        say("wrong bytes of " + std::to_string(rank));
  }
  rendezvous.barrier();
  rendezvous.leave();
  say(rendezvous.lost_rank() ? "lost one" : "done");
}

// Says which rank was lost, to the callback and to the caller, and goes on until then.
void exchange_for_ever(const RendezvousOptions& options, const Job::Say& say) {
  Rendezvous rendezvous(options);
  say("joined");
  while (true) rendezvous.barrier();
}
void compute_for_ever(const RendezvousOptions& options, const Job::Say& say) {
  Rendezvous rendezvous(options, [&](int rank) {
    say("lost " + std::to_string(rank));
    ::_exit(kExitFault);
  });
  say("joined");
  while (true) ::pause();
}

TEST(Rendezvous, EveryRankGetsTheBytesOfAll) {
  for (const int num_ranks : {1, 2, 8}) {
    Job job(num_ranks);
    job.start_all(exchange_and_leave);
    std::set<std::string> expected;
    for (int rank = 0; rank < num_ranks; ++rank) expected.merge(each({rank}, "done"));
    EXPECT_EQ(job.read_to_end(), expected);
  }
}

TEST(Rendezvous, TellsThisHostsEndOfItsConnection) {
  EXPECT_EQ(Rendezvous({}).local_address(), "127.0.0.1");
  for (const std::string& host : {std::string("127.0.0.1"), std::string("localhost")}) {
    Job job(3);
    job.options().host = host;
    job.start_all([](const RendezvousOptions& options, const Job::Say& say) {
      Rendezvous rendezvous(options);
      say(rendezvous.local_address());
      rendezvous.leave();
    });
    EXPECT_EQ(job.read_to_end(), each({0, 1, 2}, "127.0.0.1"));
  }
}

TEST(Rendezvous, LargeOffers) {
  Job job(3);
  job.start_all([](const RendezvousOptions& options, const Job::Say& say) {
    Rendezvous rendezvous(options);
    const auto all = rendezvous.exchange(std::string(kLongestOffer, static_cast<char>('a' + options.rank)));
    say(all[0] + all[2] == std::string(kLongestOffer, 'a') + std::string(kLongestOffer, 'c') ? "right" : "wrong");
    rendezvous.leave();
  });
  EXPECT_EQ(job.read_to_end(), each({0, 1, 2}, "right"));
}

TEST(Rendezvous, MissingRanksAreNamedEverywhere) {
  Job job(6, 700ms);
  for (const int rank : {0, 1, 3}) job.start(rank, exchange_and_leave);
  EXPECT_EQ(job.read_to_end(), each({0, 1, 3}, "ranks 2, 4 and 5 of 6 missing after 0.7 s at " + job.address()));
}

TEST(Rendezvous, WhoDoesNotComeToAnExchangeIsNamedEverywhere) {
  Job job(4, 700ms);
  for (const int rank : {0, 1, 3})
    job.start(rank, [](const RendezvousOptions& options, const Job::Say&) { Rendezvous(options).barrier(); });
  job.start(2, [](const RendezvousOptions& options, const Job::Say&) {
    Rendezvous rendezvous(options);
    while (true) ::pause();
  });
  EXPECT_EQ(job.read(3), each({0, 1, 3}, "rank 2 did not come to an exchange within 0.7 s"));
}

TEST(Rendezvous, AnAddressThatIsNotReachedIsNamed) {
  Job job(2, 100ms);
  {
    const Descriptor nobody = listen_on("127.0.0.1", 0);
    job.options().port = port_of(nobody.value());
  }
  job.start(1, exchange_and_leave);
  EXPECT_EQ(job.read(1), each({1}, "rank 1 cannot reach rank 0 at 127.0.0.1:" + std::to_string(job.options().port) +
                                       " within 0.1 s: Connection refused"));
}

TEST(Rendezvous, APortThatIsTakenIsNamed) {
  const Descriptor taken = listen_on("127.0.0.1", 0);
  const int port = port_of(taken.value());
  try {
    Rendezvous rendezvous({.num_ranks = 2, .port = port});
    ADD_FAILURE() << "two listen on one port";
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(error.what(),
              "port " + std::to_string(port) + " of this host cannot be listened on: Address already in use");
  }
}

TEST(Rendezvous, WhatDoesNotAgreeIsNamedWithBothRanks) {
  const auto with_plan = [](const std::string& plan, int num_ranks) {
    return [=](RendezvousOptions options, const Job::Say& say) {
      options.must_agree[0].second = plan;
      options.num_ranks = num_ranks;
      exchange_and_leave(options, say);
    };
  };
  Job job(2);
  job.start(0, exchange_and_leave);
  job.start(1, with_plan("q", 2));
  EXPECT_EQ(job.read_to_end(),
            each({0, 1}, "user error: plan is 'q' on rank 1 but 'p' on rank 0; every rank needs the same"));
  Job other(2);
  other.start(0, exchange_and_leave);
  other.start(1, with_plan("p", 3));
  EXPECT_EQ(
      other.read_to_end(),
      each({0, 1}, "user error: the number of ranks is '3' on rank 1 but '2' on rank 0; every rank needs the same"));
}

TEST(Rendezvous, ALostRankIsToldToAll) {
  for (const int lost : {0, 1, 7}) {
    Job job(8);
    job.start_all(compute_for_ever);
    EXPECT_EQ(job.read(8), each({0, 1, 2, 3, 4, 5, 6, 7}, "joined"));
    job.kill(lost);
    std::set<std::string> expected = each({0, 1, 2, 3, 4, 5, 6, 7}, "lost " + std::to_string(lost));
    expected.erase(std::to_string(lost) + ": lost " + std::to_string(lost));
    EXPECT_EQ(job.read_to_end(), expected);
  }
}

// While they join, or exchange: no one is left waiting, and rank 0 names the one that died.
TEST(Rendezvous, AKillAtAnyMomentEndsTheJob) {
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 30; ++repeat) {
    Job job(5, 300ms);
    const int lost = std::uniform_int_distribution<int>(0, 4)(random);
    job.start_all(exchange_for_ever);
    ::usleep(std::uniform_int_distribution<unsigned>(0, 8'000)(random));
    job.kill(lost);
    std::map<int, std::string> last;
    for (const std::string& line : job.read_to_end())
      if (!line.ends_with("joined")) last[line[0] - '0'] = line;
    last.erase(lost);
    EXPECT_EQ(last.size(), 4u);
    if (lost != 0) {
      EXPECT_TRUE(last[0].starts_with("0: rank " + std::to_string(lost))) << last[0];
    }
    if (testing::Test::HasFailure()) break;
  }
}

Descriptor call(int port, const std::string& text) {
  ConnectResult result = connect_to("127.0.0.1", port, std::chrono::steady_clock::now() + 5s);
  EXPECT_TRUE(result.socket.is_open()) << result.complaint;
  EXPECT_EQ(::send(result.socket.value(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  return std::move(result.socket);
}

TEST(Rendezvous, StrangersChangeNothing) {
  const auto number = [](std::uint32_t value) { return PayloadWriter().number(value).take(); };
  const std::string stranger = PayloadWriter().number(1).number(2).text("another job").number(0).take();
  const std::string long_text = PayloadWriter().number(1).number(2).number(0xffffffff).take();
  Job job(2);
  job.start(0, exchange_and_leave);
  std::vector<Descriptor> calls;
  for (const std::string& text :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("\0\0\0\0", 4), "msmoeRV1" + number(1) + number(0xffffffff),
        "msmoeRV1" + number(99) + number(0), encode({FrameKind::all, ""}), encode({FrameKind::hello, ""}),
        encode({FrameKind::hello, long_text}), encode({FrameKind::hello, stranger})}) {
    calls.push_back(call(job.port(), text));
  }
  for (const std::string& text : {std::string(), std::string("msm"), "msmoeRV1" + number(1) + number(8) + "half"})
    calls.push_back(call(job.port(), text));
  for (int hang_up = 0; hang_up < 20; ++hang_up) call(job.port(), "");
  job.start(1, exchange_and_leave);
  EXPECT_EQ(job.read_to_end(), each({0, 1}, "done"));
}

TEST(Rendezvous, AForeignServerIsNotTakenForRankZero) {
  Job job(2, 200ms);
  const Descriptor server = listen_on("127.0.0.1", 0);
  job.options().port = port_of(server.value());
  job.start(1, exchange_and_leave);
  pollfd wait{.fd = server.value(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&wait, 1, 5000), 1);
  for (bool more = true; more; more = ::poll(&wait, 1, 600) == 1) {
    const Descriptor guest = accept_from(server.value());
    ASSERT_TRUE(guest.is_open());
    EXPECT_EQ(::send(guest.value(), "220 mail\r\n", 10, MSG_NOSIGNAL), 10);
  }
  EXPECT_EQ(job.read(1), each({1}, "rank 1 cannot reach rank 0 at 127.0.0.1:" + std::to_string(job.options().port) +
                                       " within 0.2 s: what listens there does not speak as a process of this "
                                       "program does"));
}

}  // namespace
}  // namespace msmoe::executor
