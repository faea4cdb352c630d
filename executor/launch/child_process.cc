#include "executor/launch/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace msmoe::executor {
namespace {

[[noreturn]] void start_fault(const char* call) {
  throw std::runtime_error(fmt::format("no process can be started: {}: {}", call, std::strerror(errno)));
}

struct Pipe {
  Descriptor read_end, write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) start_fault("pipe2");
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// In the child, where only what is safe in a signal handler may be called.
[[noreturn]] void become(const ChildStart& start, pid_t parent, int out, int err, char* const* arguments,
                         char* const* environment) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent ended before the kernel was asked to watch it
  const int nothing = ::open("/dev/null", O_RDONLY);
  const bool ready = ::dup2(nothing, STDIN_FILENO) >= 0 && ::dup2(out, STDOUT_FILENO) >= 0 &&
                     ::dup2(err, STDERR_FILENO) >= 0 &&
                     (start.listener < 0 || ::fcntl(start.listener, F_SETFD, 0) == 0);
  if (nothing > STDERR_FILENO) ::close(nothing);
  ::pthread_sigmask(SIG_SETMASK, &start.signal_mask, nullptr);
  if (ready) ::execve("/proc/self/exe", arguments, environment);
  constexpr char kComplaint[] = "this program cannot be started once more\n";
  [[maybe_unused]] const auto written = ::write(err, kComplaint, sizeof(kComplaint) - 1);
  ::_exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const ChildStart& start) {
  Pipe out = make_pipe(), err = make_pipe();
  std::vector<std::string> arguments = start.arguments, environment = start.environment;
  const std::vector<char*> argument_pointers = pointers_to(arguments), environment_pointers = pointers_to(environment);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) start_fault("fork");
  if (pid_ == 0)
    become(start, parent, out.write_end.value(), err.write_end.value(), argument_pointers.data(),
           environment_pointers.data());
  ::setpgid(pid_, pid_);  // here too: whichever is first
  out_.emplace(std::move(out.read_end), start.out);
  err_.emplace(std::move(err.read_end), start.err);
}

ChildProcess::~ChildProcess() {
  if (!running()) return;
  kill_group();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ChildProcess::send(int signal) const {
  if (running()) ::kill(pid_, signal);
}

void ChildProcess::kill_group() const {
  if (running()) ::kill(-pid_, SIGKILL);
}

// The group is killed before the process is waited for: until then nobody else gets its number.
bool ChildProcess::reap() {
  if (!running()) return false;
  siginfo_t ended{};
  if (::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid != pid_)
    return false;
  kill_group();
  int status = 0;
  if (::waitpid(pid_, &status, 0) != pid_) return false;
  status_ = status;
  out_->finish();
  err_->finish();
  return true;
}

}  // namespace msmoe::executor
