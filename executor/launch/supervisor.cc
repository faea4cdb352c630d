#include "executor/launch/supervisor.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <csignal>
#include <cstring>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "executor/launch/child_process.h"
#include "executor/launch/process_place.h"
#include "executor/launch/socket.h"

namespace msmoe::executor {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr const char* kHost = "127.0.0.1";
constexpr std::chrono::seconds kWaitAfterKill{10};

// Takes SIGCHLD and the signals that are passed on out of their usual way, and puts them back.
class TakenSignals {
 public:
  TakenSignals() {
    sigset_t taken;
    sigemptyset(&taken);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&taken, signal);
    ::pthread_sigmask(SIG_BLOCK, &taken, &before_);
    descriptor_ = Descriptor(::signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!descriptor_.is_open()) throw std::runtime_error(fmt::format("signalfd: {}", std::strerror(errno)));
  }
  ~TakenSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  TakenSignals(const TakenSignals&) = delete;
  TakenSignals& operator=(const TakenSignals&) = delete;

  const sigset_t& before() const { return before_; }
  int descriptor() const { return descriptor_.value(); }
  int next() const {  // 0: none has arrived
    signalfd_siginfo info{};
    return ::read(descriptor_.value(), &info, sizeof(info)) == sizeof(info) ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  sigset_t before_{};
  Descriptor descriptor_;
};

// This process's own, with torchrun's variables in place of those that were there.
std::vector<std::string> environment_of(int rank, int num_ranks, int port, int listener) {
  std::vector<std::string> ours = {
      fmt::format("RANK={}", rank),         fmt::format("WORLD_SIZE={}", num_ranks),
      fmt::format("LOCAL_RANK={}", rank),   fmt::format("LOCAL_WORLD_SIZE={}", num_ranks),
      fmt::format("MASTER_ADDR={}", kHost), fmt::format("MASTER_PORT={}", port),
      "TORCHELASTIC_USE_AGENT_STORE=False", fmt::format("TORCHELASTIC_RUN_ID=local-{}", ::getpid()),
      "TORCHELASTIC_RESTART_COUNT=0",
  };
  ours.push_back(listener < 0 ? std::string(kListenerVariable) + "="
                              : fmt::format("{}={}", kListenerVariable, listener));
  const std::size_t num_ours = ours.size();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    const auto is_same = [&](const std::string& other) { return other.substr(0, other.find('=')) == name; };
    if (std::none_of(ours.begin(), ours.begin() + static_cast<std::ptrdiff_t>(num_ours), is_same))
      ours.emplace_back(text);
  }
  return ours;
}

bool is_failure(int status) { return !WIFEXITED(status) || WEXITSTATUS(status) != 0; }

// The ranks of one run, from their start to their end.
class Ranks {
 public:
  Ranks(const SupervisorOptions& options, const sigset_t& signal_mask) : grace_(options.grace) {
    Descriptor listener = listen_on(kHost, 0);  // closed here once rank 0 has it, so that it ends with rank 0
    const int port = port_of(listener.value());
    ChildStart start{
        .arguments = options.arguments, .signal_mask = signal_mask, .out = options.out, .err = options.err};
    start.arguments.insert(start.arguments.begin(), "msmoe-run");
    for (int rank = 0; rank < options.num_ranks; ++rank) {
      start.listener = rank == 0 ? listener.value() : -1;
      start.environment = environment_of(rank, options.num_ranks, port, start.listener);
      children_.push_back(std::make_unique<ChildProcess>(start));
    }
  }

  bool any_running() const {
    return std::ranges::any_of(children_, [](const auto& child) { return child->running(); });
  }
  bool gave_up() const { return killed_at_ && Clock::now() > *killed_at_ + kWaitAfterKill; }

  void pass_on(int signal) {
    if (signal == SIGINT && passed_on_) return kill_all();
    if (std::exchange(passed_on_, true)) return;
    for (const auto& child : children_) child->send(signal);
  }

  // Of several that are found dead at once, one that a signal killed is taken for the first: the others may have ended
  // because of it.
  void reap() {
    std::optional<RankFailure> failure;
    for (int rank = 0; rank < static_cast<int>(children_.size()); ++rank) {
      ChildProcess& child = *children_[static_cast<std::size_t>(rank)];
      if (!child.reap() || !is_failure(child.status())) continue;
      if (!failure || (WIFEXITED(failure->status) && WIFSIGNALED(child.status())))
        failure = RankFailure{rank, child.status(), child.err().last_line()};
    }
    if (!failure || terminated_at_) return;
    first_failure_ = std::move(failure);
    terminated_at_ = Clock::now();
    // Those that the user's signal has reached already are not told twice.
    if (std::exchange(passed_on_, true)) return;
    for (const auto& child : children_) child->send(SIGTERM);
  }

  void kill_late_ones() {
    if (terminated_at_ && !killed_at_ && Clock::now() >= *terminated_at_ + grace_) kill_all();
  }

  // Waits for a signal or for output, and passes output on.
  void wait(int signals) {
    std::vector<pollfd> polled = {{.fd = signals, .events = POLLIN, .revents = 0}};
    std::vector<LineRelay*> relays = {nullptr};
    for (const auto& child : children_) {
      for (LineRelay* relay : {&child->out(), &child->err()}) {
        if (relay->descriptor() < 0) continue;
        polled.push_back({.fd = relay->descriptor(), .events = POLLIN, .revents = 0});
        relays.push_back(relay);
      }
    }
    milliseconds longest{1000};
    if (terminated_at_ && !killed_at_) {
      const auto left = std::chrono::ceil<milliseconds>(*terminated_at_ + grace_ - Clock::now());
      longest = std::clamp(left, milliseconds{0}, longest);
    }
    if (::poll(polled.data(), polled.size(), static_cast<int>(longest.count())) <= 0) return;
    for (std::size_t idx = 1; idx < polled.size(); ++idx)
      if (polled[idx].revents != 0) relays[idx]->pump();
  }

  Outcome outcome() const {
    Outcome outcome{.first_failure = first_failure_};
    for (int rank = 0; rank < static_cast<int>(children_.size()); ++rank)
      if (children_[static_cast<std::size_t>(rank)]->running()) outcome.not_ended.push_back(rank);
    return outcome;
  }

 private:
  void kill_all() {
    for (const auto& child : children_) child->kill_group();
    if (!killed_at_) killed_at_ = Clock::now();
  }

  milliseconds grace_;
  std::vector<std::unique_ptr<ChildProcess>> children_;
  std::optional<RankFailure> first_failure_;
  bool passed_on_ = false;
  std::optional<Clock::time_point> terminated_at_, killed_at_;
};

}  // namespace

int Outcome::exit_code() const {
  if (!first_failure) return not_ended.empty() ? kExitDone : kExitFault;
  const int status = first_failure->status;
  return WIFEXITED(status) && WEXITSTATUS(status) <= kExitFault ? WEXITSTATUS(status) : kExitFault;
}

std::string Outcome::message() const {
  std::string text;
  if (first_failure) {
    const int status = first_failure->status;
    if (WIFSIGNALED(status)) {
      const char* name = ::sigabbrev_np(WTERMSIG(status));
      text = fmt::format("rank {} was killed by {}", first_failure->rank,
                         name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", WTERMSIG(status)));
    } else {
      text = fmt::format("rank {} ended with exit code {}", first_failure->rank, WEXITSTATUS(status));
    }
    if (!first_failure->last_error_line.empty())
      text += fmt::format("; its last line of errors: {}", first_failure->last_error_line);
  }
  for (const int rank : not_ended) text += fmt::format("{}rank {} cannot be killed", text.empty() ? "" : "; ", rank);
  return text;
}

Supervisor::Supervisor(SupervisorOptions options) : options_(std::move(options)) { assert(options_.num_ranks >= 1); }

Outcome Supervisor::run() {
  const TakenSignals signals;
  // On the heap, to be left there where the kernel cannot end a process: its destructor would wait for that.
  auto ranks = std::make_unique<Ranks>(options_, signals.before());
  while (ranks->any_running() && !ranks->gave_up()) {
    ranks->wait(signals.descriptor());
    while (const int signal = signals.next())
      if (signal != SIGCHLD) ranks->pass_on(signal);
    ranks->reap();
    ranks->kill_late_ones();
  }
  Outcome outcome = ranks->outcome();
  if (!outcome.not_ended.empty()) [[maybe_unused]]
    const Ranks* left = ranks.release();
  return outcome;
}

}  // namespace msmoe::executor
