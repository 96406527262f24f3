# CMake toolchain for 64-bit ARM Linux: Jetson, DRIVE OS Linux, Debian arm64.
#
#   cmake -S . -B build --toolchain cross/toolchains/aarch64-linux.cmake
#
# EDGERT_CROSS_PREFIX  before gcc and g++, with its folder where they are not on PATH (aarch64-linux-gnu-)
# EDGERT_SYSROOT       root file system of the target; without one, the compiler's own C library is used
# CUDA_ROOT            folder of the CUDA toolkit whose nvcc compiles kernels (the nvcc on PATH)
#
# Each is a CMake variable (-D) or, where that is not set, an environment variable.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EDGERT_CROSS_PREFIX EDGERT_SYSROOT CUDA_ROOT)

foreach(setting EDGERT_CROSS_PREFIX EDGERT_SYSROOT CUDA_ROOT)
  if(NOT ${setting} AND DEFINED ENV{${setting}})
    set(${setting} "$ENV{${setting}}")
  endif()
endforeach()
if(NOT EDGERT_CROSS_PREFIX)
  set(EDGERT_CROSS_PREFIX aarch64-linux-gnu-)
endif()

foreach(compiler gcc g++)
  unset(found)
  find_program(found "${EDGERT_CROSS_PREFIX}${compiler}" NO_CACHE NO_CMAKE_FIND_ROOT_PATH)
  if(NOT found)
    message(FATAL_ERROR "There is no ${EDGERT_CROSS_PREFIX}${compiler}. "
      "On Debian and Ubuntu: apt-get install g++-aarch64-linux-gnu. Another compiler: -DEDGERT_CROSS_PREFIX=/folder/prefix-")
  endif()
  set(compiler_${compiler} "${found}")
endforeach()
set(CMAKE_C_COMPILER "${compiler_gcc}")
set(CMAKE_CXX_COMPILER "${compiler_g++}")
set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
if(CUDA_ROOT)
  if(NOT EXISTS "${CUDA_ROOT}/bin/nvcc")
    message(FATAL_ERROR "CUDA_ROOT is ${CUDA_ROOT}, and there is no bin/nvcc in it.")
  endif()
  set(CMAKE_CUDA_COMPILER "${CUDA_ROOT}/bin/nvcc")
endif()

if(EDGERT_SYSROOT)
  if(NOT IS_DIRECTORY "${EDGERT_SYSROOT}/usr")
    message(FATAL_ERROR "EDGERT_SYSROOT is ${EDGERT_SYSROOT}, which is no root file system: it has no folder usr.")
  endif()
  set(CMAKE_SYSROOT "${EDGERT_SYSROOT}")
  set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
  set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
  set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
  set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
endif()
