"""What may be asked for an image, and what may not. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.images import rules
from serving.images.fetching import allowed_hosts
from serving.images.parts import read_parts
from studio.errors import InvalidRequest

ANY = frozenset[str]()


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            *("0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.31.0.1"),
            *("192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
            *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808"),
            *("64:ff9b:1::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2002:7f00:1::", "2001::1"),
            *("2001:db8::1", "100::1", "5f00::1", "3fff::1"),
        ],
    )
    def test_what_is_not_plainly_public_is_refused(self, address: str) -> None:
        assert not rules.is_public(ip_address(address))

    @pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450::1"])
    def test_public_ones_are_allowed(self, address: str) -> None:
        assert rules.is_public(ip_address(address))

    @given(st.ip_addresses())
    def test_never_more_is_public_than_the_standard_library_says(self, address: IPv4Address | IPv6Address) -> None:
        if rules.is_public(address):
            assert address.is_global
            assert not any((address.is_multicast, address.is_reserved, address.is_loopback, address.is_link_local))

    @given(st.ip_addresses(v=4))
    def test_no_ipv4_address_is_reached_through_ipv6(self, address: IPv4Address) -> None:
        number = int(address)
        for hidden in (number, 0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
            assert not rules.is_public(IPv6Address(hidden))


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "rule"),
        [
            ("http://example.com/a.png", "only `https:`"),
            ("HTTP://example.com/a.png", "only `https:`"),
            ("file:///etc/passwd", "only `https:`"),
            ("gopher://example.com/", "only `https:`"),
            ("ftp://example.com/a.png", "only `https:`"),
            ("//example.com/a.png", "only `https:`"),
            ("", "only `https:`"),
            ("https:///a.png", "no host"),
            ("https://example.com:8443/a.png", "only port 443"),
            ("https://user@example.com/", "user or a password"),
            ("https://example.com:99999/", "not a valid URL"),
            ("https://[::1", "not a valid URL"),
        ],
    )
    def test_each_refusal_names_its_rule(self, url: str, rule: str) -> None:
        with pytest.raises(InvalidRequest, match=rule) as refused:
            rules.check_url(url, ANY, "here")
        assert refused.value.code == "invalid_image_url"

    def test_a_list_of_hosts_allows_those_and_no_other(self) -> None:
        hosts = allowed_hosts("images.example.com, cdn.example.com:8443,")
        for url in ("https://images.example.com/a", "https://IMAGES.example.com./a", "https://cdn.example.com:8443/a"):
            rules.check_url(url, hosts, "here")
        for url in (
            "https://cdn.example.com/a",
            "https://images.example.com:8443/",
            "https://images.example.com.evil/",
        ):
            with pytest.raises(InvalidRequest):
                rules.check_url(url, hosts, "here")

    @given(st.text(max_size=60))
    def test_any_text_is_taken_or_refused(self, text: str) -> None:
        for url in (text, f"https://{text}", f"https://example.com/{text}"):
            try:
                assert rules.check_url(url, ANY, "here").scheme == "https"
            except InvalidRequest as refused:
                assert refused.code == "invalid_image_url"  # noqa: PT017 (both ways are right)

    @pytest.mark.parametrize(
        "url",
        [
            "data:text/html;base64,PGI+",
            "data:image/svg+xml;base64,PHN2Zz4=",
            "data:image/png,abc",
            "data:image/png;base64,????",
            "data:image/png;base64,AAAA",
            "data:",
        ],
    )
    def test_data_that_is_no_image_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidRequest):
            rules.check_data_url(url, rules.Pixels(), "here")


class TestParts:
    def test_only_known_keys_reach_an_engine(self) -> None:
        """vLLM takes `image_url` from a part with a `uuid`, whatever its type."""
        smuggled = [
            {"type": "text", "text": "a", "uuid": "x", "image_url": "http://127.0.0.1/"},
            {
                "type": "image_url",
                "image_url": {"url": "data:,", "detail": "low"},
                "uuid": "x",
                "video_url": "http://a",
            },
        ]
        messages, images = read_parts([{"role": "user", "content": smuggled, "name": "n"}])
        parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
        assert messages == [{"role": "user", "content": parts, "name": "n"}]
        assert [image.url for image in images] == ["data:,"]

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "video_url", "video_url": {"url": "http://127.0.0.1/"}},
            {"type": "audio_url", "audio_url": {"url": "http://127.0.0.1/"}},
            {"type": "input_image", "image_url": "http://127.0.0.1/"},
            {"type": "image_url", "image_url": "http://127.0.0.1/"},
            {"type": "image_url"},
            {"image_url": "http://127.0.0.1/"},
            {"type": ["text"], "text": "a"},
            {"type": "text"},
            {"type": "prompt_embeds", "data": "AAAA"},
        ],
    )
    def test_every_other_part_is_refused(self, part: object) -> None:
        with pytest.raises(InvalidRequest, match=r"messages\[0\].content\[0\]|Content parts"):
            read_parts([{"role": "user", "content": [part]}])
