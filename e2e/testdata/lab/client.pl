# usage: perl client.pl HOST PORT ROOT
use strict;
use warnings;
use IO::Socket::SSL;

my ($host, $port, $root) = @ARGV;
my $tls = IO::Socket::SSL->new(
    PeerHost => $host, PeerPort => $port, SSL_ca_file => $root, SSL_verifycn_scheme => "http",
) or die "error: $SSL_ERROR\n";
print $tls "GET / HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n" or die "error: $!\n";
my $answer = "";
while (1) {
    my $n = sysread($tls, $answer, 65536, length $answer);
    die "error: $! $SSL_ERROR\n" unless defined $n;
    last if $n == 0;
}
exit($answer =~ m{^HTTP/1.1 200} ? 0 : 1);
