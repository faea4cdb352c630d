// ChildProcess: this program once more, in a process group of its own, that does not outlive the thread that started
// it.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "executor/launch/line_relay.h"

namespace msmoe::executor {

struct ChildStart {
  std::vector<std::string> arguments;    // the program's name first
  std::vector<std::string> environment;  // "NAME=value": all that it gets
  int listener = -1;                     // a descriptor that it inherits under the same number; -1: none
  sigset_t signal_mask{};                // what it starts with
  int out = 1, err = 2;                  // where its lines go
};

class ChildProcess {
 public:
  // A std::runtime_error where the system starts no more processes. Standard input is empty for it. When the calling
  // thread ends, however it does, the kernel kills the child.
  explicit ChildProcess(const ChildStart& start);
  ~ChildProcess();  // kills it where it still runs
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  bool running() const { return !status_; }
  void send(int signal) const;  // to the process
  void kill_group() const;      // SIGKILL, to it and to what it started

  // Where it has ended: kills what it left running, passes on its last lines, and returns true, once.
  bool reap();
  int status() const { return *status_; }  // as waitpid gives it. REQUIRES: !running()

  LineRelay& out() { return *out_; }
  LineRelay& err() { return *err_; }

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
  std::optional<LineRelay> out_, err_;
};

}  // namespace msmoe::executor
