"""Overlays that come along: operations of their own"""
