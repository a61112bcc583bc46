"""What is protected, as routes of Flask have it."""
import logging
from flask import Flask, request
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
app = Flask("paths", static_folder=None)


def say(name):
    def answer(rest=""):
        return "handler=" + name + "\n" + request.full_path
    answer.__name__ = name
    return answer


for name in "admin", "internal", "public":
    app.add_url_rule("/" + name, name, say(name), strict_slashes=False)
    app.add_url_rule("/" + name + "/<path:rest>", name, strict_slashes=False)


@app.route("/")
@app.route("/<path:rest>")
def other(rest=""):
    first = rest.split("/")[0]  # what has an empty segment behind it is no path of the rules above
    return say(first if first in app.view_functions else "other")()


server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
