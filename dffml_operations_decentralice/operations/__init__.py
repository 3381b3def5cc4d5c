"""One module for each part of the flow, in the words of the flow"""
