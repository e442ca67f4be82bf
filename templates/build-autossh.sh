#!/bin/sh -e
# Unpacks and compiles autossh, as an ordinary user, in a folder that is this user's alone.
cd {{ folder }}
tar -xzf {{ archive }} --strip-components=1 --no-same-owner
# This configure ignores --with-ssh, but not the variable. autossh needs neither of the two libraries, and one that
# came with the compiler's packages would be gone with them.
./configure --prefix=/usr/local ac_cv_path_ssh={{ ssh }} ac_cv_lib_nsl_gethostbyname=no ac_cv_lib_socket_connect=no || { cat config.log; exit 1; }
make
