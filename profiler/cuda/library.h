// A shared library opened at run time, so that a program runs where it is missing until it is needed.
#pragma once

#include <dlfcn.h>

#include <initializer_list>
#include <type_traits>

namespace msmoe::profiler {

class Library {
 public:
  // The first of the names that the loader finds. Never closed: what it hands out stays valid.
  explicit Library(std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (handle_ == nullptr) handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  explicit operator bool() const { return handle_ != nullptr; }
  // Sets the pointer, to null where the library has no such function. REQUIRES: it was found.
  template <class Function>
  bool look_up(Function*& function, const char* name) const {
    static_assert(std::is_function_v<Function>);
    function = reinterpret_cast<Function*>(dlsym(handle_, name));
    return function != nullptr;
  }

 private:
  void* handle_ = nullptr;
};

}  // namespace msmoe::profiler
