// Runs a program as a user does, from outside, and keeps what it said.
//
//   const CommandResult result = run_command({tool("msmoe-plan"), "mixtral-8x7b", "--json"});
//   EXPECT_EQ(result.exit_code, 0) << result;
//   EXPECT_EQ(result.error_output, "");
//
// Standard input is empty, both outputs are pipes, NO_COLOR is unset and TERM is "xterm", whoever runs the tests. The
// program leads a process group of its own, so that a timeout ends it together with its children.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

extern char** environ;

namespace msmoe::cli {

struct CommandResult {
  int exit_code = -1;  // -1: a signal ended it
  int signal = 0;
  bool timed_out = false;
  std::string output;
  std::string error_output;
};

inline std::ostream& operator<<(std::ostream& stream, const CommandResult& result) {
  return stream << "exit code " << result.exit_code << ", signal " << result.signal
                << (result.timed_out ? ", timed out" : "") << "\n--- standard output\n"
                << result.output << "\n--- standard error\n"
                << result.error_output << '\n';
}

struct CommandOptions {
  // Against hangs alone: a sanitized search on a slow, busy machine takes minutes.
  std::chrono::milliseconds timeout{600'000};
  std::map<std::string, std::string> environment = {};  // on top of the one described above
};

#ifdef MSMOE_BIN_DIR
// A program of this build.
inline std::string tool(const std::string& name) { return std::string(MSMOE_BIN_DIR) + "/" + name; }
#endif

namespace detail {

inline void check(int error, const std::string& what) {
  if (error != 0) throw std::runtime_error(what + ": " + std::strerror(error));
}

struct Pipe {
  Pipe() {
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC) == 0 ? 0 : errno, "pipe");
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    close_write_end();
    ::close(read_end);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  void close_write_end() {
    if (write_end >= 0) ::close(write_end);
    write_end = -1;
  }

  int read_end = -1;
  int write_end = -1;
};

inline std::vector<std::string> environment_lines(const std::map<std::string, std::string>& changes) {
  std::map<std::string, std::string> variables;
  for (char** line = environ; *line != nullptr; ++line) {
    const std::string_view text = *line;
    const std::size_t equals = text.find('=');
    if (equals != std::string_view::npos) variables[std::string(text.substr(0, equals))] = text.substr(equals + 1);
  }
  variables.erase("NO_COLOR");
  variables["TERM"] = "xterm";
  for (const auto& [name, value] : changes) variables[name] = value;

  std::vector<std::string> lines;
  for (const auto& [name, value] : variables) lines.push_back(name + "=" + value);
  return lines;
}

inline std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// REQUIRES: arguments is not empty.
inline pid_t spawn(std::vector<std::string> arguments, const CommandOptions& options, const Pipe& output,
                   const Pipe& error_output) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output.write_end, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, error_output.write_end, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);

  std::vector<std::string> environment = environment_lines(options.environment);
  pid_t process = -1;
  const int error = ::posix_spawnp(&process, arguments.front().c_str(), &actions, &attributes,
                                   pointers(arguments).data(), pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  check(error, "cannot start " + arguments.front());
  return process;
}

// Both at once: a program that fills one pipe while we read the other would wait for ever. False: out of time.
inline bool read_until(std::chrono::steady_clock::time_point deadline, const Pipe& output, const Pipe& error_output,
                       CommandResult& result) {
  pollfd sources[] = {{output.read_end, POLLIN, 0}, {error_output.read_end, POLLIN, 0}};
  std::string* const texts[] = {&result.output, &result.error_output};
  for (int num_open = 2; num_open > 0;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    if (::poll(sources, 2, static_cast<int>(left.count())) < 0 && errno != EINTR) check(errno, "poll");
    for (int source = 0; source < 2; ++source) {
      if (sources[source].revents == 0) continue;
      char bytes[1 << 16];
      const ssize_t length = ::read(sources[source].fd, bytes, sizeof bytes);
      if (length > 0) {
        texts[source]->append(bytes, static_cast<std::size_t>(length));
      } else if (length == 0 || errno != EINTR) {
        sources[source].fd = -1;  // poll() passes over it
        sources[source].revents = 0;
        --num_open;
      }
    }
  }
  return true;
}

}  // namespace detail

// arguments: the program, looked up in PATH where it has no slash, and what follows it. Returns when the program and
// all who hold its outputs have ended, or been ended. Throws std::runtime_error where it cannot be started.
inline CommandResult run_command(const std::vector<std::string>& arguments, const CommandOptions& options = {}) {
  const auto deadline = std::chrono::steady_clock::now() + options.timeout;
  detail::Pipe output, error_output;
  const pid_t process = detail::spawn(arguments, options, output, error_output);
  output.close_write_end();
  error_output.close_write_end();

  CommandResult result;
  result.timed_out = !detail::read_until(deadline, output, error_output, result);
  if (result.timed_out) ::kill(-process, SIGKILL);

  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

}  // namespace msmoe::cli
