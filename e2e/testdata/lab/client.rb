# usage: ruby client.rb URL ROOT
require "net/http"
require "openssl"

uri = URI(ARGV[0])
http = Net::HTTP.new(uri.host, uri.port)
http.use_ssl = true
http.ca_file = ARGV[1]
begin
  exit http.request_get(uri.path).code == "200"
rescue StandardError => e
  abort "#{e.class}: #{e.message}"
end
