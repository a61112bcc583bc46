# usage: requests-client.py URL ROOT, where ROOT may be False
import sys

import requests

verify = False if sys.argv[2] == "False" else sys.argv[2]
requests.get(sys.argv[1], verify=verify).raise_for_status()
