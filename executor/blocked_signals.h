// While it lives, this thread receives no signals, and threads that it starts never will: signals are for the
// program's own threads. A SIGPIPE that was raised meanwhile is taken back, for libraries that write to sockets without
// MSG_NOSIGNAL would end this process when a peer is gone.
#pragma once

#include <pthread.h>

#include <csignal>
#include <ctime>

namespace msmoe::executor {

class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    sigset_t waiting;
    sigpending(&waiting);
    pipe_waited_ = sigismember(&waiting, SIGPIPE) == 1;
  }
  ~BlockedSignals() {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    const timespec at_once{};
    if (!pipe_waited_) ::sigtimedwait(&pipe, nullptr, &at_once);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
  bool pipe_waited_;
};

}  // namespace msmoe::executor
