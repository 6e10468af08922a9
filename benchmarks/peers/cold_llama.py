"""What `gpt2 generate --ids ... -n 1` does, with llama-cpp-python: GGUF THREADS. Loads, and prints one token."""

import sys

import llama_cpp

llama = llama_cpp.Llama(sys.argv[1], n_ctx=1024, n_threads=int(sys.argv[2]), verbose=False)
print(next(llama.generate([1, 2, 3, 4, 5, 6, 7, 8], temp=0)), flush=True)
