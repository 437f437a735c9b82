"""llama.cpp's own server on a GGUF file, until it is killed: FILE NAME [PORT]. Prints its address."""

import signal
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], {sys.argv[2]}
params.port = int(sys.argv[3]) if len(sys.argv) > 3 else 0
params.n_parallel = 2
params.n_gpu_layers = 0
params.warmup = False
params.use_jinja = True
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
signal.pause()
