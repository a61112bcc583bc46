<?php
// What is protected, as many front controllers have it: by the path of parse_url, decoded, in any case.
$path = strtolower(rawurldecode(parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH) ?: $_SERVER["REQUEST_URI"]));
foreach (["admin", "internal", "public"] as $name) {
    if (preg_match("#^/+$name(/|$)#", $path)) {
        echo "handler=$name\n$path";
        return true;
    }
}
echo "handler=other\n$path";
return true;
