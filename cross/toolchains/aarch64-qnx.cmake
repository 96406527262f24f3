# CMake toolchain for QNX on 64-bit ARM, as DRIVE OS has it. The QNX SDP and DRIVE SDK are under licence.
#
#   source qnxsdp-env.sh; export CUDA=cuda-11.4
#   cmake -S . -B build --toolchain cross/toolchains/aarch64-qnx.cmake
#
# Environment variables:
# QNX_HOST     the SDP's tools for this machine, .../host/linux/x86_64
# QNX_TARGET   the SDP's headers and libraries, .../target/qnx7 or .../target/qnx
# CUDA         name of the CUDA toolkit, cuda-11.4; without it, the last part of CUDA_ROOT
# CUDA_ROOT    its folder; without it, /usr/local/$CUDA
# USE_QCC      ON: compile by QNX's drivers qcc and q++ in place of gcc and g++
#
# CUDA 11.4 goes with QNX 7.1 and gcc 8.3; all later ones with QNX 8.0 and gcc 12.2.

set(CMAKE_SYSTEM_NAME QNX)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

set(why_QNX_HOST "the tools of the QNX SDP, .../host/linux/x86_64")
set(why_QNX_TARGET "the headers and libraries of the QNX SDP, .../target/qnx7")
foreach(name QNX_HOST QNX_TARGET)
  if("$ENV{${name}}" STREQUAL "")
    message(FATAL_ERROR "The environment variable ${name} is not set: the folder of ${why_${name}}. "
      "Source the SDP's qnxsdp-env.sh. The SDP comes from QNX, under licence.")
  elseif(NOT IS_DIRECTORY "$ENV{${name}}")
    message(FATAL_ERROR "${name} is $ENV{${name}}, which is no folder. Wanted: ${why_${name}}.")
  endif()
  set(${name} "$ENV{${name}}")
endforeach()

set(CUDA_ROOT "$ENV{CUDA_ROOT}")
set(cuda "$ENV{CUDA}")
if(CUDA_ROOT STREQUAL "" AND cuda STREQUAL "")
  message(FATAL_ERROR "Neither CUDA nor CUDA_ROOT is set: name the toolkit, CUDA=cuda-11.4, or its folder. "
    "CUDA for QNX comes with NVIDIA's DRIVE SDK, under licence.")
elseif(CUDA_ROOT STREQUAL "")
  set(CUDA_ROOT "/usr/local/${cuda}")
elseif(cuda STREQUAL "")
  get_filename_component(cuda "${CUDA_ROOT}" NAME)
endif()
if(NOT cuda MATCHES "^cuda-[0-9]+\\.[0-9]+$")
  message(FATAL_ERROR "'${cuda}' does not name a CUDA toolkit as cuda-11.4 does; set CUDA, by which the version "
    "of QNX is chosen.")
endif()
set(cuda_target "${CUDA_ROOT}/targets/aarch64-qnx")
if(NOT IS_DIRECTORY "${cuda_target}")
  message(FATAL_ERROR "There is no ${cuda_target}: this toolkit is not for QNX. Set CUDA_ROOT to the one of the "
    "DRIVE SDK.")
endif()

if(cuda STREQUAL "cuda-11.4")
  set(qnx_version 7.1.0)
  set(gcc_version 8.3.0)
  set(qnx_definitions -D__QNX__)
else()
  set(qnx_version 8.0.0)
  set(gcc_version 12.2.0)
endif()
set(CMAKE_SYSTEM_VERSION ${qnx_version})

if("$ENV{USE_QCC}")
  set(CMAKE_C_COMPILER "${QNX_HOST}/usr/bin/qcc")
  set(CMAKE_CXX_COMPILER "${QNX_HOST}/usr/bin/q++")
  set(CMAKE_C_COMPILER_TARGET gcc_ntoaarch64le)
  set(CMAKE_CXX_COMPILER_TARGET gcc_ntoaarch64le_cxx)
else()
  set(tools "${QNX_HOST}/usr/bin/aarch64-unknown-nto-qnx${qnx_version}-")
  set(CMAKE_C_COMPILER "${tools}gcc")
  set(CMAKE_CXX_COMPILER "${tools}g++")
  set(CMAKE_AR "${tools}ar" CACHE FILEPATH "Archiver of the QNX SDP")
  set(CMAKE_RANLIB "${tools}ranlib" CACHE FILEPATH "Indexer of the QNX SDP")
endif()
foreach(compiler "${CMAKE_C_COMPILER}" "${CMAKE_CXX_COMPILER}")
  if(NOT EXISTS "${compiler}")
    message(FATAL_ERROR "There is no ${compiler}. ${cuda} goes with QNX ${qnx_version} (gcc ${gcc_version}): "
      "install that SDP, or set CUDA to the toolkit that goes with yours.")
  endif()
endforeach()
set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
if(EXISTS "${CUDA_ROOT}/bin/nvcc")
  set(CMAKE_CUDA_COMPILER "${CUDA_ROOT}/bin/nvcc")
endif()

add_compile_definitions(_XOPEN_SOURCE=700 _POSIX_C_SOURCE=2 _QNX_SOURCE QNX=1 __aarch64__)
add_compile_options(${qnx_definitions})
# TensorRT's headers and libraries for QNX lie where the SDK's Debian packages put them.
include_directories(SYSTEM "${cuda_target}/include" /usr/include/aarch64-unknown-nto-qnx)
link_directories("${cuda_target}/lib" "${cuda_target}/lib/stubs" /usr/lib/aarch64-unknown-nto-qnx)

set(CMAKE_FIND_ROOT_PATH "${QNX_TARGET}" "${QNX_TARGET}/aarch64le" "${cuda_target}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
